"""Pictures from pictures: the init image changed as diffusers' img2img pipelines change it, whoever shares forwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

from invokeai_daemon.engine.decode import decode
from invokeai_daemon.engine.denoise import denoise_step, pick
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.noise import seeded
from invokeai_daemon.engine.painting.pictures import init_picture, pixels_of
from invokeai_daemon.engine.painting.pictures import plain as as_plain
from invokeai_daemon.engine.passes import Desk
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.schedulers import SCHEDULERS
from invokeai_daemon.job.schema.pictures import Init
from tests.engine.build import image
from tests.engine.conftest import difference, render, render_plainly, start_lanes
from tests.engine.drive import desk_of, drawn_picture, first_lane, make

INIT, SMALL = "init.png", "small.png"
#: One of each class.
CLASSES = [name for name in SCHEDULERS if not name.endswith("_k") and name not in ("dpmpp_3m", "er_sde")]


def from_init(strength: float = 0.6, color_match: bool = False, **values: Any) -> Image:
    init = Init(image=INIT, strength=strength, color_match=color_match)
    return image(**{"steps": 5, "init": init, **values})


@pytest.fixture(scope="module")
def desk(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return desk_of(pipeline, tmp_path_factory.mktemp("job"), {INIT: drawn_picture(96, 80), SMALL: drawn_picture(24, 8)})


@pytest.fixture(scope="module")
def img2img(plain: Any) -> Any:
    """diffusers' own img2img pipeline over the same weights."""
    made = StableDiffusionImg2ImgPipeline(**plain.components, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    made.own_scheduler = plain.own_scheduler
    return made


def changed_plainly(img2img: Any, desk: Desk, wanted: Image, **words: Any) -> Any:
    assert wanted.init is not None
    fitted = desk.open(wanted.init.image).resize((wanted.width, wanted.height), PIL.Image.Resampling.LANCZOS)
    words = {"image": fitted, "strength": wanted.init.strength, "width": None, "height": None, **words}
    return render_plainly(img2img, wanted, **words)


# -- the pictures of diffusers -------------------------------------------------------------------------------------


def test_every_scheduler_gives_the_picture_of_diffusers(desk: Desk, img2img: Any) -> None:
    differences = {}
    for number, name in enumerate(CLASSES, start=1):
        wanted = from_init(0.7, number=number, steps=4, scheduler=name, negative_prompt="blurred")
        expected = changed_plainly(img2img, desk, wanted)
        assert expected.std() > 2, "the picture must show something for the comparison to say anything"
        differences[name] = difference(make(desk, wanted)[0].pixels, expected)
    assert max(differences.values()) <= 2, differences


@pytest.mark.parametrize("scheduler", ["euler", "heun"])
def test_strength_is_counted_as_diffusers_counts_it(desk: Desk, img2img: Any, scheduler: str) -> None:
    for strength, steps in ((0.2, 1), (0.29, 1), (0.5, 2), (0.99, 4), (1.0, 5)):
        wanted = from_init(strength, scheduler=scheduler, cfg_scale=1.0)
        picture, [lane] = make(desk, wanted)
        assert difference(picture.pixels, changed_plainly(img2img, desk, wanted)) <= 2
        # Of two evaluations for each step, heun leaves out the very last.
        assert lane.index == len(lane.timesteps) == (steps if scheduler == "euler" else 2 * steps - 1)


def test_a_picture_of_any_kind_is_its_colours(tmp_path: Path) -> None:
    rgb = drawn_picture(16, 16)
    shades = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    kinds = {
        "RGB": rgb,
        "RGBA": rgb.convert("RGBA"),
        "P": rgb.quantize(256),
        "L": rgb.convert("L"),
        "I;16": PIL.Image.fromarray(shades),
        "1": rgb.convert("1"),
    }
    for mode, picture in kinds.items():
        assert picture.mode == mode
        picture.save(tmp_path / "it.png")
        seen = as_plain(PIL.Image.open(tmp_path / "it.png"))
        assert seen.mode == "RGB"
        if mode != "I;16":
            assert np.array_equal(np.asarray(seen), np.asarray(picture.convert("RGB")))
        else:
            assert np.array_equal(np.asarray(seen)[..., 1], shades // 257)


def test_what_is_transparent_stays_known(tmp_path: Path) -> None:
    picture = drawn_picture(16, 16).convert("RGBA")
    picture.putpixel((3, 5), (10, 20, 30, 0))
    assert as_plain(picture).mode == "RGBA"


# -- how much is made anew -----------------------------------------------------------------------------------------


def test_no_strength_gives_the_init_image_through_the_vae(desk: Desk) -> None:
    picture, [lane] = make(desk, from_init(0.0))
    drawn = desk.pipeline.vae.encode(pixels_of(init_picture(desk, from_init())), seeded(42))
    assert lane.index == 0
    assert torch.equal(lane.latents, drawn)
    assert np.array_equal(picture.pixels, decode([lane])[0].pixels)


def test_the_least_strength_makes_the_last_step(desk: Desk) -> None:
    lane = first_lane(desk, from_init(0.01))
    assert lane.timesteps.tolist() == lane.scheduler.timesteps[-1:].tolist()


def test_the_more_strength_the_further_the_picture_moves(desk: Desk) -> None:
    kept = make(desk, from_init(0.0))[1][0].latents
    moved = [float((make(desk, from_init(strength))[1][0].latents - kept).std()) for strength in (0.2, 0.6, 1.0)]
    assert 0 < moved[0] < moved[1] < moved[2]


def test_a_run_that_begins_late_is_so_much_less_strength(desk: Desk) -> None:
    for scheduler in ("euler", "heun"):
        late = make(desk, from_init(steps=10, denoising_start=0.4, scheduler=scheduler))[1][0]
        weak = make(desk, from_init(0.6, steps=10, scheduler=scheduler))[1][0]
        assert torch.equal(late.latents, weak.latents)


def test_a_run_that_ends_early_leaves_its_noise(desk: Desk) -> None:
    cut, [lane] = make(desk, from_init(0.6, steps=10, denoising_end=0.7))
    assert len(lane.timesteps) == 3
    assert lane.timesteps.tolist() == lane.scheduler.timesteps[4:7].tolist()
    assert difference(cut.pixels, make(desk, from_init(0.6, steps=10))[0].pixels) > 2


def test_a_part_without_a_step_is_an_error(desk: Desk) -> None:
    with pytest.raises(RenderError, match=r"none of the 5 steps lies between .* Ask for more steps"):
        first_lane(desk, from_init(0.2, denoising_end=0.3))


# -- noise and steps -----------------------------------------------------------------------------------------------


def test_what_is_done_to_noise_and_steps_shows_in_changed_pictures_too(desk: Desk) -> None:
    usual = make(desk, from_init(scheduler="euler_a"))[0].pixels
    for knobs in (
        {"variations": ((9, 0.5),)},
        {"perlin": 0.5},
        {"threshold": 0.5},
        {"h_symmetry_time_pct": 0.3},
        {"seamless_x": True},
    ):
        assert difference(make(desk, from_init(scheduler="euler_a", **knobs))[0].pixels, usual) > 2, knobs


def test_symmetry_counts_the_steps_that_are_made(desk: Desk) -> None:
    lane = first_lane(desk, from_init(0.4, steps=10, h_symmetry_time_pct=0.75))
    for _ in range(3):
        denoise_step([lane])
        assert not torch.equal(lane.latents, lane.latents.flip(-1))
    denoise_step([lane])
    assert torch.equal(lane.latents, lane.latents.flip(-1))


# -- many lanes, one forward ---------------------------------------------------------------------------------------


def test_changed_pictures_and_new_ones_share_forwards_and_change_no_bit_of_each_other(desk: Desk) -> None:
    changed = [from_init(0.4), from_init(0.8, number=2, scheduler="heun"), from_init(1.0, number=3, cfg_scale=1.0)]
    new = [image(4, steps=5), image(5, steps=3, scheduler="euler_a")]
    lanes = [*(first_lane(desk, each) for each in changed), *start_lanes(desk.pipeline, new)]
    assert pick(lanes) == lanes
    while going := [lane for lane in lanes if not lane.is_done]:
        assert not denoise_step(going)
    alone = [*(make(desk, each)[0].pixels for each in changed), *(render(desk.pipeline, [each])[0] for each in new)]
    for lane, expected in zip(lanes, alone, strict=True):
        assert np.array_equal(decode([lane])[0].pixels, expected)


# -- colours -------------------------------------------------------------------------------------------------------


def test_the_result_gets_the_colours_of_the_init_image_or_of_another(desk: Desk) -> None:
    usual = make(desk, from_init())[0].pixels
    for wanted, reference in (
        (from_init(color_match=True), INIT),
        (from_init(init_color=SMALL), SMALL),
        (image(steps=2, init_color=SMALL), SMALL),
    ):
        got = make(desk, wanted)[0].pixels
        colors = np.asarray(desk.open(reference)).reshape(-1, 3)
        assert np.abs(got.reshape(-1, 3).mean(axis=0) - colors.mean(axis=0)).max() < 12
        assert np.abs(usual.reshape(-1, 3).mean(axis=0) - colors.mean(axis=0)).max() > 20
