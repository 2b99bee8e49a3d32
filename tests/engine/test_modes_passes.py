"""Pictures of more than one pass: the hires fix, SDXL with its refiner, and both."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from torch.nn import functional

from invokeai_daemon.engine import render as render_module
from invokeai_daemon.engine.backlog import Ticket
from invokeai_daemon.engine.denoise import denoise_step
from invokeai_daemon.engine.lanes import Lane
from invokeai_daemon.engine.loading.memory import Streamed
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.modes.hires import hires, trained_side
from invokeai_daemon.engine.modes.refiner import NOTHING_LEFT
from invokeai_daemon.engine.passes import Desk, Passed
from invokeai_daemon.engine.render import Renderer
from invokeai_daemon.engine.scheduling.schedulers import class_of
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.schedulers import BY_NAME
from invokeai_daemon.job.schema.pictures import Hires, Init, Refiner
from invokeai_daemon.settings import RenderSettings, Settings
from tests.engine.build import image
from tests.engine.conftest import Pixels, difference, render, render_plainly
from tests.engine.drive import begin, desk_of, drawn_picture, first_lane, make

CPU = torch.device("cpu")
INIT = "init.png"


class Pair:
    """SDXL and its refiner, as they are loaded here and as diffusers loads them."""

    def __init__(self, folder: Path, base: Pipeline, refiner: Pipeline, plain: Any, plain_refiner: Any) -> None:
        asked = replace(refiner.model, asked="finer")
        self.base, self.others = base.model, {asked: refiner}
        self.desk: Desk = desk_of(base, folder, {INIT: drawn_picture()}, [asked])
        self.plain, self.plain_refiner = plain, plain_refiner

    def make(self, wanted: Image) -> tuple[Any, list[Any]]:
        return make(self.desk, wanted, self.others)


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, xl: Pipeline, refiner: Pipeline, plain_xl: Any, plain_refiner: Any
) -> Pair:
    return Pair(tmp_path_factory.mktemp("job"), xl, refiner, plain_xl, plain_refiner)


# -- the refiner ---------------------------------------------------------------------------------------------------


def handed_over_plainly(pair: Pair, wanted: Image) -> Pixels:
    """Base and refiner as diffusers' documentation has them work together."""
    assert wanted.refiner is not None
    start = wanted.refiner.start
    latents = torch.from_numpy(render_plainly(pair.plain, wanted, denoising_end=start, output_type="latent"))[None]
    scores = {
        "aesthetic_score": wanted.refiner.positive_aesthetic_score,
        "negative_aesthetic_score": wanted.refiner.negative_aesthetic_score,
    }
    sizes = {"width": None, "height": None, "original_size": (64, 64), "target_size": (64, 64)}
    return render_plainly(pair.plain_refiner, wanted, image=latents, denoising_start=start, **scores, **sizes)


@pytest.mark.parametrize("scheduler", ["euler", "dpmpp_2m_k"])
def test_the_refiner_goes_on_where_the_base_ends_as_in_diffusers(pair: Pair, scheduler: str) -> None:
    refiner = Refiner(model="finer", start=0.6, positive_aesthetic_score=7.5, negative_aesthetic_score=1.0)
    wanted = image(steps=6, scheduler=scheduler, negative_prompt="blurred", refiner=refiner)
    picture, lanes = pair.make(wanted)
    assert [lane.pipeline.model.base for lane in lanes] == ["sdxl", "sdxl-refiner"]
    assert sum(len(lane.timesteps) for lane in lanes) == 6
    assert difference(picture.pixels, handed_over_plainly(pair, wanted)) <= 2
    assert difference(picture.pixels, render_plainly(pair.plain, wanted)) > 10


def test_the_refiner_is_told_the_scores(pair: Pair) -> None:
    def told(**scores: float) -> Any:
        wanted = image(refiner=Refiner(model="finer", start=0.5, **scores))
        return pair.make(wanted)[1][1].conditioning.added["time_ids"][:, -1].tolist()

    assert told() == [2.5, 6.0]
    assert told(positive_aesthetic_score=9.0, negative_aesthetic_score=1.5) == [1.5, 9.0]


def test_a_refiner_with_nothing_to_do_is_told_of(pair: Pair) -> None:
    picture, lanes = pair.make(image(refiner=Refiner(model="finer", start=1.0)))
    assert len(lanes) == 1
    assert picture.warnings == [NOTHING_LEFT]
    assert np.array_equal(picture.pixels, render(pair.desk.pipeline, [image()])[0])


def test_a_base_with_nothing_to_do_leaves_all_to_the_refiner(pair: Pair) -> None:
    for wanted in (
        image(refiner=Refiner(model="finer", start=0.0)),
        image(steps=10, init=Init(image=INIT, strength=0.1), refiner=Refiner(model="finer", start=0.8)),
    ):
        [lane] = pair.make(wanted)[1]
        assert lane.pipeline.model.base == "sdxl-refiner"
        assert len(lane.timesteps) == (4 if wanted.init is None else 1)


def test_changed_pictures_are_refined_too(pair: Pair) -> None:
    wanted = image(steps=10, init=Init(image=INIT, strength=0.6), refiner=Refiner(model="finer", start=0.7))
    _, lanes = pair.make(wanted)
    assert [len(lane.timesteps) for lane in lanes] == [3, 3]
    assert torch.equal(torch.cat([lane.timesteps for lane in lanes]), lanes[0].scheduler.timesteps[4:])


@pytest.mark.parametrize("name", ["sdxl", "sdxl-refiner"])
def test_an_sdxl_model_changes_pictures_as_diffusers_does(pair: Pair, name: str) -> None:
    plain = pair.plain_refiner
    desk = pair.desk
    if name == "sdxl":
        parts = {key: part for key, part in pair.plain.components.items() if part is not None}
        plain = StableDiffusionXLImg2ImgPipeline(**parts)
        plain.set_progress_bar_config(disable=True)
        plain.own_scheduler = pair.plain.own_scheduler
    else:
        [pipeline] = pair.others.values()
        desk = desk_of(pipeline, desk.folder, {INIT: drawn_picture()})
    wanted = image(steps=5, negative_prompt="blurred", init=Init(image=INIT, strength=0.7))
    words = {"image": drawn_picture(), "strength": 0.7, "width": None, "height": None}
    assert difference(make(desk, wanted)[0].pixels, render_plainly(plain, wanted, **words)) <= 2


# -- hires ---------------------------------------------------------------------------------------------------------


def test_a_model_says_the_side_it_was_trained_on(pair: Pair, pipeline: Pipeline) -> None:
    assert trained_side(pipeline) == 8 * pipeline.denoiser.model.config.sample_size == 64
    assert trained_side(pair.desk.pipeline) == 64


LARGE: dict[str, Any] = {"width": 128, "height": 96, "steps": 5, "hires": Hires(strength=0.6)}


@pytest.fixture
def desk(pipeline: Pipeline, tmp_path: Path) -> Desk:
    return desk_of(pipeline, tmp_path, {})


def test_a_large_picture_is_made_small_then_enlarged_under_fresh_noise(desk: Desk) -> None:
    wanted = image(scheduler="ddim", **LARGE)
    _, [small, large] = make(desk, wanted)
    assert small.latents.shape[-2:] == (6, 9)
    assert large.latents.shape[-2:] == (12, 16)
    assert (small.index, large.index) == (5, 3)
    # By the rule: the first pass is a picture of its own, the second begins with it under the seed's next noise.
    alone = first_lane(desk, image(scheduler="ddim", width=72, height=48, steps=5))
    generator = torch.Generator("cpu").manual_seed(wanted.seed)
    assert torch.equal(alone.latents, torch.randn(1, 4, 6, 9, generator=generator))
    noise = torch.randn(1, 4, 12, 16, generator=generator)
    enlarged = functional.interpolate(small.latents, (12, 16), mode="bilinear", align_corners=False)
    scheduler = class_of(BY_NAME["ddim"]).from_config(desk.pipeline.schedulers.config)
    scheduler.set_timesteps(5)
    expected = scheduler.add_noise(enlarged, noise, scheduler.timesteps[2:3])
    assert torch.allclose(_begun(desk, wanted, small.latents), expected, atol=1e-5)


def _begun(desk: Desk, wanted: Image, small: torch.Tensor) -> torch.Tensor:
    """The latents that the second pass begins with."""
    mode = hires(desk, wanted)
    next(mode)
    return begin(desk.pipeline, mode.send(Passed(small))).latents


def test_both_passes_keep_the_threshold_and_only_the_first_perlin_noise_and_symmetry(desk: Desk) -> None:
    knobs: dict[str, Any] = {"threshold": 3.0, "perlin": 0.2, "h_symmetry_time_pct": 0.5, "v_symmetry_time_pct": 0.5}
    _, [small, large] = make(desk, image(**LARGE, **knobs))
    assert (len(small.hooks), len(large.hooks)) == (3, 1)
    assert (small.image.perlin, large.image.perlin) == (0.2, 0.0)


def test_a_whole_variation_is_the_other_seeds_large_picture(desk: Desk) -> None:
    varied = make(desk, image(seed=1, variations=((2, 1.0),), **LARGE))[1]
    other = make(desk, image(seed=2, **LARGE))[1]
    assert torch.allclose(varied[0].latents, other[0].latents)


def test_a_large_sdxl_picture_is_told_the_size_of_each_pass_and_may_be_refined(pair: Pair) -> None:
    wanted = image(**LARGE, refiner=Refiner(model="finer", start=0.7))
    _, lanes = pair.make(wanted)
    assert [lane.pipeline.model.base for lane in lanes] == ["sdxl", "sdxl", "sdxl-refiner"]
    sizes = [lane.conditioning.added["time_ids"][-1, :2].tolist() for lane in lanes]
    assert sizes == [[48, 72], [96, 128], [96, 128]]


# -- in the renderer -----------------------------------------------------------------------------------------------


def rendered(pair: Pair, folder: Path, images: tuple[Image, ...]) -> Renderer:
    """The renderer after it has made these images in a folder; none failed."""
    ticket = Ticket(replace(pair.desk.plan, images=images), folder)
    shutil.copy(pair.desk.folder / INIT, folder)
    events: list[dict[str, Any]] = []
    threads = torch.get_num_threads()
    renderer = Renderer(Settings(render=RenderSettings(device="cpu")), CPU, 2, events.append)
    renderer.add(ticket, images, alone=False)
    while not renderer.is_idle:
        renderer.turn()
    renderer.finish()
    torch.set_num_threads(threads)
    assert [event for event in events if event["event"] == "image_failed"] == []
    return renderer


def test_the_renderer_makes_pictures_of_several_passes_side_by_side(pair: Pair, tmp_path: Path) -> None:
    images = (
        image(1, steps=6, refiner=Refiner(model="finer", start=0.5)),
        image(2, save_intermediates=3, **LARGE),
        image(3, steps=3),
        image(4, steps=6, init=Init(image=INIT, strength=0.0)),
    )
    rendered(pair, tmp_path, images)
    for wanted in images:
        [file] = tmp_path.glob(f"{wanted.number:04}.*.png")
        assert difference(np.asarray(PIL.Image.open(file)), pair.make(wanted)[0].pixels) <= 1
    # The steps of both passes of the large picture, 5 and 3, counted on.
    [steps] = (tmp_path / "intermediates").iterdir()
    assert sorted(path.stem for path in steps.iterdir()) == ["0000", "0003", "0004", "0005", "0007"]
    assert {np.asarray(PIL.Image.open(path)).shape for path in steps.iterdir()} == {(48, 72, 3), (96, 128, 3)}


def test_a_refiner_that_does_not_fit_is_streamed_and_the_base_is_not(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short_of_memory(lanes: list[Lane]) -> dict[Lane, Exception]:
        if lanes[0].pipeline.model.base == "sdxl-refiner" and lanes[0].pipeline.streamed is not Streamed.ALL:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return denoise_step(lanes)

    monkeypatch.setattr(render_module, "denoise_step", short_of_memory)
    wanted = image(steps=2, refiner=Refiner(model="finer", start=0.5))
    renderer = rendered(pair, tmp_path, (wanted,))
    [refiner] = pair.desk.plan.references
    easings = [renderer.stock.memory.easing(model, wanted) for model in (pair.base, refiner)]
    assert [easing.streamed for easing in easings] == [Streamed.NOTHING, Streamed.ALL]
