"""Painting into pictures: what is painted is diffusers', and what is kept is the init image, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionXLInpaintPipeline, UNet2DConditionModel

from invokeai_daemon.engine.denoise import denoise_step
from invokeai_daemon.engine.loading.pipeline import Pipeline, load_pipeline
from invokeai_daemon.engine.modes import mode_of
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.plan import Image, ModelRef
from invokeai_daemon.job.schema.pictures import Infill, Init, Mask, Outpaint, Refiner, Seam
from tests.engine.build import build_model, build_sdxl, image
from tests.engine.conftest import Pixels, difference, render, render_plainly, start_lanes
from tests.engine.drive import desk_of, drawn_picture, first_lane, make

Grey = np.ndarray[Any, np.dtype[np.uint8]]
BOX = (16, 24, 48, 56)


def mask_of(box: tuple[int, int, int, int] = BOX, size: tuple[int, int] = (64, 64)) -> PIL.Image.Image:
    """A mask that paints a box."""
    mask = PIL.Image.new("L", size, 255)
    mask.paste(0, box)
    return mask


def painting(strength: float = 0.75, mask: dict[str, Any] | None = None, **values: Any) -> Image:
    """An image that paints into `init.png` what `mask.png` says."""
    said = Mask(**{"image": "mask.png", **(mask or {})})
    return image(init=Init(image="init.png", strength=strength), mask=said, **values)


#: Nothing is done to the picture after decoding.
AS_MADE = {"paste_back": False, "color_correct": False}


def inpainted_plainly(model: ModelRef, wanted: Image, init: PIL.Image.Image, mask: PIL.Image.Image) -> Pixels:
    """The picture as diffusers' own pipeline makes it, from the same picture, mask and seed."""
    kind = StableDiffusionXLInpaintPipeline if model.base == "sdxl" else StableDiffusionInpaintPipeline
    plain = kind.from_pretrained(model.path, local_files_only=True)
    plain.set_progress_bar_config(disable=True)
    plain.own_scheduler = plain.scheduler
    assert wanted.init is not None
    words = {"image": init, "mask_image": PIL.ImageOps.invert(mask), "strength": wanted.init.strength}
    return render_plainly(plain, wanted, **words)


def loaded(model: ModelRef) -> Pipeline:
    return load_pipeline(model, torch.device("cpu"), "float32", cores=2)


def with_nine_channels(model: ModelRef) -> ModelRef:
    """The model with a UNet that sees mask and masked picture."""
    folder = Path(model.path) / "unet"
    config = {**UNet2DConditionModel.load_config(folder), "in_channels": 9}
    torch.manual_seed(9)
    UNet2DConditionModel.from_config(config).save_pretrained(folder)
    return replace(model, variant="inpaint")


@pytest.fixture(scope="session")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return loaded(with_nine_channels(build_model(tmp_path_factory.mktemp("models") / "inpainting")))


# Equal to diffusers


@pytest.mark.parametrize(
    ("scheduler", "strength"),
    # Of one step, of two, without a begin, that look at a timestep twice, and that draw more noise.
    [("euler", 0.6), ("dpmpp_2m", 1.0), ("ddim", 0.75), ("heun", 1.0), ("euler_a", 0.6)],
)
def test_an_ordinary_model_paints_as_in_diffusers(
    pipeline: Pipeline, tmp_path: Path, scheduler: str, strength: float
) -> None:
    init, mask = drawn_picture(), mask_of((10, 17, 51, 60))
    wanted = painting(strength, AS_MADE, scheduler=scheduler, steps=5)
    made, _ = make(desk_of(pipeline, tmp_path, {"init.png": init, "mask.png": mask}), wanted)
    assert difference(made.pixels, inpainted_plainly(pipeline.model, wanted, init, mask)) <= 1


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_a_model_that_sees_masks_paints_as_in_diffusers(inpainting: Pipeline, tmp_path: Path, strength: float) -> None:
    init, mask = drawn_picture(), mask_of((10, 17, 51, 60))
    wanted = painting(strength, AS_MADE, scheduler="euler_a")
    made, _ = make(desk_of(inpainting, tmp_path, {"init.png": init, "mask.png": mask}), wanted)
    assert difference(made.pixels, inpainted_plainly(inpainting.model, wanted, init, mask)) <= 1


def test_sdxl_paints_as_in_diffusers(xl: Pipeline, tmp_path: Path) -> None:
    init, mask = drawn_picture(), mask_of()
    wanted = painting(0.6, AS_MADE, negative_prompt="blurred")
    made, _ = make(desk_of(xl, tmp_path, {"init.png": init, "mask.png": mask}), wanted)
    assert difference(made.pixels, inpainted_plainly(xl.model, wanted, init, mask)) <= 1


def test_sdxl_that_sees_masks_paints_as_in_diffusers(tmp_path: Path) -> None:
    pipeline = loaded(with_nine_channels(build_sdxl(tmp_path / "model")))
    init, mask = drawn_picture(), mask_of()
    wanted = painting(1.0, AS_MADE, negative_prompt="blurred")
    made, _ = make(desk_of(pipeline, tmp_path, {"init.png": init, "mask.png": mask}), wanted)
    assert difference(made.pixels, inpainted_plainly(pipeline.model, wanted, init, mask)) <= 1


def test_a_model_that_sees_masks_makes_pictures_from_text_over_nothing(inpainting: Pipeline) -> None:
    [picture] = render(inpainting, [image(steps=2)])
    assert picture.std() > 0


# What is kept


def test_the_latents_that_are_kept_are_those_of_the_init_image(pipeline: Pipeline, tmp_path: Path) -> None:
    desk = desk_of(pipeline, tmp_path, {"init.png": drawn_picture(), "mask.png": mask_of()})
    _, [nothing] = make(desk, image(init=Init(image="init.png", strength=0.0)))
    _, [lane] = make(desk, painting(scheduler="dpmpp_2m_sde"))
    is_kept = torch.from_numpy(np.asarray(mask_of())[::8, ::8] == 255).expand_as(lane.latents)
    assert torch.equal(lane.latents[is_kept], nothing.latents[is_kept])
    assert not torch.isclose(lane.latents, nothing.latents)[~is_kept].any()


@pytest.mark.parametrize("mask", [{}, {"blur": 0}, {"blur": 40}, {"width": 96, "height": 128}])
def test_unmasked_pixels_are_those_of_the_init_image_bit_for_bit(
    pipeline: Pipeline, tmp_path: Path, mask: dict[str, int]
) -> None:
    desk = desk_of(pipeline, tmp_path, {"init.png": drawn_picture(), "mask.png": mask_of((11, 17, 50, 61))})
    made, [lane] = make(desk, painting(mask=mask, steps=2))
    init, is_kept = np.asarray(drawn_picture()), np.asarray(mask_of((11, 17, 50, 61))) == 255
    assert np.array_equal(made.pixels[is_kept], init[is_kept])
    assert (made.pixels != init)[~is_kept].mean() > 0.9
    assert lane.latents.shape[-2:] == ((16, 12) if mask.get("width") else (8, 8))


def test_a_seam_is_another_pass_that_changes_only_the_border_of_what_was_painted(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    box = (0, 0, 96, 128)
    desk = desk_of(pipeline, tmp_path, {"init.png": drawn_picture(128, 128), "mask.png": mask_of(box, (128, 128))})
    size = {"width": 128, "height": 128, "steps": 2}
    once, _ = make(desk, painting(mask={"blur": 0, "color_correct": False}, **size))
    wanted = painting(mask={"blur": 0, "color_correct": False}, **size, seam=Seam(size=32, blur=0, steps=3))
    twice, [_, second] = make(desk, wanted)
    assert len(second.timesteps) == 2
    changed = (once.pixels != twice.pixels).any(axis=2)
    assert not changed[:, 96:].any()
    assert not changed[:, :79].any()
    assert changed[:, 80:96].mean() > 0.9
    assert np.array_equal(twice.pixels[:, 96:], np.asarray(drawn_picture(128, 128))[:, 96:])


def test_the_refiner_keeps_what_the_mask_keeps(xl: Pipeline, refiner: Pipeline, tmp_path: Path) -> None:
    asked = replace(refiner.model, asked="tiny-refiner")
    desk = desk_of(xl, tmp_path, {"init.png": drawn_picture(), "mask.png": mask_of()}, [asked])
    _, [plain] = make(desk, painting())
    wanted = painting(steps=6, refiner=Refiner(model="tiny-refiner", start=0.6))
    _, [half, whole] = make(desk, wanted, {asked: refiner})
    is_kept = torch.from_numpy(np.asarray(mask_of())[::8, ::8] == 255).expand_as(plain.latents)
    assert torch.equal(whole.latents[is_kept], plain.latents[is_kept])
    assert not torch.isclose(half.latents[is_kept], plain.latents[is_kept]).any()


def test_a_painted_picture_shares_forwards_with_others_and_is_the_same(pipeline: Pipeline, tmp_path: Path) -> None:
    desk = desk_of(pipeline, tmp_path, {"init.png": drawn_picture(), "mask.png": mask_of()})
    wanted = painting(scheduler="euler_a", steps=4)
    _, [alone] = make(desk, wanted)
    [other] = start_lanes(pipeline, [image(2, steps=3)])
    beside = first_lane(desk, wanted)
    assert beside.group == other.group
    while not beside.is_done:
        assert not denoise_step([beside, other])
    assert torch.equal(beside.latents, alone.latents)


# Where the mask comes from


def test_what_is_transparent_is_painted_and_its_colours_are_the_start(pipeline: Pipeline, tmp_path: Path) -> None:
    init = drawn_picture()
    init.putalpha(mask_of())
    files = {"init.png": init, "rgb.png": drawn_picture(), "mask.png": mask_of()}
    desk = desk_of(pipeline, tmp_path, files)
    by_alpha, [lane] = make(desk, image(init=Init(image="init.png", strength=0.5)))
    same = replace(painting(0.5), init=Init(image="rgb.png", strength=0.5))
    by_mask, [other] = make(desk, same)
    assert torch.equal(lane.latents, other.latents)
    assert np.array_equal(by_alpha.pixels, by_mask.pixels)
    assert by_alpha.warnings == []
    filled, _ = make(desk, image(init=Init(image="init.png", strength=0.5), infill=Infill(method="solid")))
    assert not np.array_equal(filled.pixels, by_alpha.pixels)


def test_erased_colours_are_filled_in_and_told(pipeline: Pipeline, tmp_path: Path) -> None:
    init = drawn_picture().convert("RGBA")
    init.paste((0, 0, 0, 0), BOX)
    desk = desk_of(pipeline, tmp_path, {"init.png": init})
    made, _ = make(desk, image(steps=2, init=Init(image="init.png")))
    assert any("colours of the transparent pixels are gone" in warning for warning in made.warnings)
    is_kept = np.asarray(mask_of()) == 255
    assert np.array_equal(made.pixels[is_kept], np.asarray(drawn_picture())[is_kept])


def test_a_mask_that_paints_nothing_or_everything_is_told(pipeline: Pipeline, tmp_path: Path) -> None:
    white = PIL.Image.new("L", (64, 64), 255)
    desk = desk_of(pipeline, tmp_path, {"init.png": drawn_picture(), "mask.png": white})
    nothing, _ = make(desk, painting(steps=2))
    assert any("paints nothing" in warning for warning in nothing.warnings)
    assert np.array_equal(nothing.pixels, np.asarray(drawn_picture()))
    everything, _ = make(desk, painting(steps=2, mask={"invert": True}))
    assert any("paints everything" in warning for warning in everything.warnings)


def test_a_mask_of_another_size_is_stretched_like_the_init_image(pipeline: Pipeline, tmp_path: Path) -> None:
    files = {"init.png": drawn_picture().resize((128, 128)), "mask.png": mask_of().resize((32, 32))}
    made, _ = make(desk_of(pipeline, tmp_path, files), painting(steps=2))
    init = np.asarray(files["init.png"].resize((64, 64), PIL.Image.Resampling.LANCZOS))
    is_kept = np.asarray(mask_of((12, 20, 52, 60))) == 255
    assert np.array_equal(made.pixels[is_kept], init[is_kept])


# Outpainting


def test_an_extended_picture_has_the_init_image_in_it_bit_for_bit(pipeline: Pipeline, tmp_path: Path) -> None:
    init = drawn_picture(60, 64)
    desk = desk_of(pipeline, tmp_path, {"init.png": init})
    sides = Outpaint(left=24, right="50%", bottom=8)
    wanted = image(steps=2, width=120, height=72, init=Init(image="init.png"), outpaint=sides)
    made, lanes = make(desk, wanted)
    assert made.pixels.shape == (72, 120, 3)
    assert np.array_equal(made.pixels[:64, 24:84], np.asarray(init))
    assert made.pixels[:, 84:].std() > 0
    # The seam is painted, too, without being asked for.
    assert len(lanes) == 2
    without, lanes = make(desk, replace(wanted, seam=Seam(size=0)))
    assert len(lanes) == 1
    assert not np.array_equal(without.pixels, made.pixels)


def test_what_a_mask_paints_of_an_extended_picture_is_painted_with_it(pipeline: Pipeline, tmp_path: Path) -> None:
    desk = desk_of(pipeline, tmp_path, {"init.png": drawn_picture(), "mask.png": mask_of((0, 0, 64, 32))})
    wanted = painting(steps=2, width=96, outpaint=Outpaint(right=32), seam=Seam(size=0))
    made, _ = make(desk, wanted)
    init = np.asarray(drawn_picture())
    assert np.array_equal(made.pixels[32:, :64], init[32:])
    assert (made.pixels[:32, :64] != init[:32]).mean() > 0.9


def test_nothing_to_continue_is_an_error_before_any_step(pipeline: Pipeline, tmp_path: Path) -> None:
    desk = desk_of(pipeline, tmp_path, {"init.png": PIL.Image.new("RGBA", (64, 64))})
    wanted = image(init=Init(image="init.png"))
    with pytest.raises(RenderError, match="nothing to continue"):
        next(mode_of(wanted, pipeline.model)(desk, wanted))
