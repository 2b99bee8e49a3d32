"""FLUX.1 dev, schnell and Fill: the pictures of diffusers' own pipelines, through the one loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import torch
from diffusers import FluxFillPipeline, FluxImg2ImgPipeline, FluxInpaintPipeline
from torch import Tensor

from invokeai_daemon.engine.denoise import denoise_step
from invokeai_daemon.engine.loading.memory import Streamed
from invokeai_daemon.engine.loading.pipeline import load_pipeline
from invokeai_daemon.engine.texts.unheeded import GUIDANCE
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.schema.pictures import Init, Mask
from tests.engine.build import image
from tests.engine.build_flow import LATENTS, build_flux
from tests.engine.conftest import difference, render, start_lanes
from tests.engine.drive import desk_of, drawn_picture, make
from tests.engine.plain_flow import Flow
from tests.engine.steadiness import assert_rows_are_steady, assert_texts_are_steady, render_joining


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Flow]:
    """`made("dev")`: one of the variants, made once."""
    known: dict[str, Flow] = {}

    def get(variant: str) -> Flow:
        if variant not in known:
            known[variant] = Flow(build_flux(tmp_path_factory.mktemp("models") / "tiny", variant))
        return known[variant]

    return get


@pytest.fixture(scope="module")
def dev(made: Callable[[str], Flow]) -> Flow:
    return made("dev")


def told(number: int = 1, **values: object) -> Image:
    """An image that is guided by a number that the model is told."""
    return image(number, **{"cfg_scale": 1.0, "guidance": 3.5, **values})


# -- the pictures of diffusers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "wanted"),
    [
        ("dev", told(1, width=128, height=96)),
        # As many tokens as shift the run from one end of the line to where it ends.
        ("dev", told(2, width=320, height=256, steps=2, guidance=1.5)),
        ("dev", told(3, cfg_scale=4.0, negative_prompt="blurred", prompt="a red circle " * 200)),
        ("dev", told(4, prompt="", guidance=0.0)),
        ("schnell", told(5, guidance=None)),
        ("schnell", told(6, guidance=None, scheduler="lcm", width=96, prompt="a red circle " * 200)),
    ],
    ids=lambda each: each if isinstance(each, str) else each.scheduler,
)
def test_pictures_are_those_of_diffusers(made: Callable[[str], Flow], variant: str, wanted: Image) -> None:
    flux = made(variant)
    expected = flux.render(wanted)
    assert expected.std() > 10, "the picture must show something for the comparison to say anything"
    assert difference(render(flux.ours, [wanted])[0], expected) <= 1


def test_texts_are_encoded_as_diffusers_does(dev: Flow) -> None:
    for text in ("", "a red circle", "word " * 600):
        with torch.inference_mode():
            rows, pooled, _ = dev.plain.encode_prompt(text, None)
        ours = dev.ours.prompts.encode([text])[text]
        assert ours.pooled is not None
        assert torch.allclose(ours.rows, rows[0], atol=1e-5)
        assert torch.allclose(ours.pooled, pooled[0], atol=1e-5)


def test_the_end_of_a_text_that_t5_does_not_read_is_told(dev: Flow) -> None:
    whole, cut = start_lanes(
        dev.ours, [told(prompt="a red star " * 150), told(prompt="a red star " * 300 + "on a square")]
    )
    assert whole.warnings == []
    assert [warning.split(":")[0] for warning in cut.warnings] == [
        "the prompt is longer than the model reads; this part had no effect"
    ]
    assert cut.warnings[0].endswith('on a square"')


@pytest.mark.parametrize("strength", [0.3, 0.75])
def test_pictures_from_pictures_are_those_of_diffusers(dev: Flow, tmp_path: Path, strength: float) -> None:
    init, wanted = drawn_picture(96, 64), told(steps=6, width=96)
    asked = replace(wanted, init=Init(image="init.png", strength=strength))
    made, [lane] = make(desk_of(dev.ours, tmp_path, {"init.png": init}), asked)
    plain = dev.as_kind(FluxImg2ImgPipeline)
    assert difference(made.pixels, dev.render(wanted, plain, image=init, strength=strength)) <= 1
    assert len(lane.timesteps) < wanted.steps


def painting(wanted: Image, strength: float) -> Image:
    mask = Mask(image="mask.png", paste_back=False, color_correct=False)
    return replace(wanted, init=Init(image="init.png", strength=strength), mask=mask)


def mask_of(*box: int) -> PIL.Image.Image:
    mask = PIL.Image.new("L", (64, 64), 255)
    mask.paste(0, box)
    return mask


def test_painted_pictures_are_those_of_diffusers(dev: Flow, tmp_path: Path) -> None:
    init, mask, wanted = drawn_picture(), mask_of(16, 32, 48, 64), told(steps=5)
    made, _ = make(desk_of(dev.ours, tmp_path, {"init.png": init, "mask.png": mask}), painting(wanted, 0.6))
    words = {"image": init, "mask_image": PIL.ImageOps.invert(mask), "strength": 0.6}
    assert difference(made.pixels, dev.render(wanted, dev.as_kind(FluxInpaintPipeline), **words)) <= 1


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_fill_sees_every_pixel_of_the_mask_as_in_diffusers(
    made: Callable[[str], Flow], tmp_path: Path, strength: float
) -> None:
    fill = made("dev_fill")
    # No side of the mask lies on the grid of the latents.
    init, mask, wanted = drawn_picture(), mask_of(13, 27, 51, 58), told(steps=5, guidance=30.0)
    desk = desk_of(fill.ours, tmp_path, {"init.png": init, "mask.png": mask})
    made_here, _ = make(desk, painting(wanted, strength))
    words = {"image": init, "mask_image": PIL.ImageOps.invert(mask), "strength": strength}
    assert difference(made_here.pixels, fill.render(wanted, fill.as_kind(FluxFillPipeline), **words)) <= 1
    other = desk_of(fill.ours, tmp_path, {"init.png": init, "mask.png": mask_of(13, 27, 50, 58)})
    assert difference(make(other, painting(wanted, strength))[0].pixels, made_here.pixels) > 1


def test_fill_makes_pictures_from_text_where_everything_is_to_be_painted(made: Callable[[str], Flow]) -> None:
    fill = made("dev_fill").ours
    [lane] = start_lanes(fill, [told(width=96)])
    assert lane.model_input().shape == (1, 16 + 16 + 64, 8, 12)
    assert lane.beside is not None
    assert (lane.beside[:, :16] == 0).all() and (lane.beside[:, 16:] == 1).all()
    assert render(fill, [told(width=96)])[0].std() > 10


# -- many lanes, one forward ---------------------------------------------------------------------------------------


def test_lanes_that_join_and_leave_give_the_bits_they_give_alone(dev: Flow) -> None:
    images = [
        told(1, steps=4),
        told(2, steps=3, scheduler="heun", prompt="a green square", guidance=9.0),
        told(3, steps=3, cfg_scale=3.0, scheduler="lcm", negative_prompt="red"),
        told(4, steps=5, prompt="a red star " * 90),
    ]
    together, shared = render_joining(dev.ours, images)
    assert max(shared) >= 3
    for wanted, picture in zip(images, together, strict=True):
        assert np.array_equal(picture, render(dev.ours, [wanted])[0]), wanted


def test_a_row_gets_the_same_bits_however_many_share_its_forward(dev: Flow) -> None:
    assert_rows_are_steady(dev.ours, [(5, 8, 8), (5, 10, 9)])


def test_texts_encoded_together_have_the_bits_they_have_alone(dev: Flow) -> None:
    assert_texts_are_steady(dev.ours)


# -- what is particular --------------------------------------------------------------------------------------------


def test_sides_that_are_no_whole_number_of_patches_are_rendered_in_their_size(dev: Flow) -> None:
    [odd] = render(dev.ours, [told(width=72, height=88)])
    assert odd.shape == (88, 72, 3)
    # The last column is made like the others: what stands beyond it is not seen.
    assert odd[:, -8:].std() > 0.5 * odd[:, :-8].std()


def test_heun_looks_at_the_end_of_each_step_of_euler(dev: Flow) -> None:
    euler, heun = (dev.ours.schedulers.new(name, steps=5, size=(1, LATENTS, 64, 64)) for name in ("euler", "heun"))
    assert heun.timesteps.tolist() == [*euler.timesteps[:1], *euler.timesteps[1:].repeat_interleave(2)]

    def velocity(latents: Tensor, level: float) -> Tensor:
        return latents / 2 + level**2

    latents = expected = torch.linspace(-2, 2, 5)
    for timestep in heun.timesteps:
        latents = heun.step(velocity(latents, float(timestep) / 1000), timestep, latents, return_dict=False)[0]
    for level, following in pairwise(euler.sigmas.tolist()):
        slope, length = velocity(expected, level), following - level
        if following:
            slope = (slope + velocity(expected + length * slope, following)) / 2
        expected = expected + length * slope
    assert torch.allclose(latents, expected, atol=1e-5)


def test_larger_pictures_stay_longer_in_the_noise(dev: Flow, made: Callable[[str], Flow]) -> None:
    small, large = start_lanes(dev.ours, [told(), told(width=512, height=512)])
    assert small.timesteps[1] < large.timesteps[1] < small.timesteps[0] == large.timesteps[0]
    small, large = start_lanes(made("schnell").ours, [told(guidance=None), told(guidance=None, width=512, height=512)])
    assert torch.equal(small.timesteps, large.timesteps)


def test_the_number_that_guides_is_heeded_where_the_model_was_distilled_for_it(made: Callable[[str], Flow]) -> None:
    for variant, is_heeded in (("dev", True), ("schnell", False)):
        flux = made(variant)
        lanes = start_lanes(flux.ours, [told(guidance=2.0), told(guidance=20.0)])
        assert [lane.warnings for lane in lanes] == [[] if is_heeded else [GUIDANCE]] * 2
        assert lanes[0].rows == 1
        assert not denoise_step(lanes)
        assert torch.equal(lanes[0].latents, lanes[1].latents) != is_heeded


def test_no_layer_of_clip_can_be_left_out_of_which_only_the_vector_is_taken(dev: Flow) -> None:
    with pytest.raises(RenderError, match="clip_skip 1 leaves nothing of the text encoder"):
        start_lanes(dev.ours, [told(clip_skip=1)])


def test_a_part_of_a_run_and_symmetry_are_as_in_other_families(dev: Flow) -> None:
    whole, end, mirrored = start_lanes(
        dev.ours, [told(steps=8), told(steps=8, denoising_start=0.5), told(steps=8, h_symmetry_time_pct=0.5)]
    )
    assert torch.equal(end.timesteps, whole.timesteps[whole.timesteps <= 500])
    # Noise in the share that it has at this place of the run.
    assert torch.allclose(end.latents, whole.latents * (end.timesteps[0] / 1000))
    while not mirrored.is_done:
        assert not denoise_step([mirrored])
        if mirrored.index == 5:
            assert torch.equal(mirrored.latents, mirrored.latents.flip(-1))


def test_a_model_whose_layers_come_from_the_disk_makes_the_same_picture(dev: Flow) -> None:
    streamed = load_pipeline(dev.model, torch.device("cpu"), "float32", cores=2, streamed=Streamed.ALL)
    assert np.array_equal(render(streamed, [told(steps=2)])[0], render(dev.ours, [told(steps=2)])[0])
