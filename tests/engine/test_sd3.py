"""Stable Diffusion 3.5: the pictures of diffusers' own pipelines, through the one loop."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.ImageOps
import pytest
import torch
from diffusers import (
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
    StableDiffusion3Pipeline,
)

from invokeai_daemon.engine.denoise import pick
from invokeai_daemon.engine.loading.pipeline import load_pipeline
from invokeai_daemon.engine.texts.unheeded import GUIDANCE, SEAMLESS, WEIGHTS
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.schema.pictures import Init, Mask
from tests.engine.build import image
from tests.engine.build_flow import build_sd_3
from tests.engine.conftest import difference, render, start_lanes
from tests.engine.drive import desk_of, drawn_picture, make
from tests.engine.plain_flow import Flow
from tests.engine.steadiness import assert_rows_are_steady, assert_texts_are_steady, render_joining

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sd_3(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    return Flow(build_sd_3(tmp_path_factory.mktemp("models") / "tiny"))


# -- the pictures of diffusers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        image(1, cfg_scale=4.5, negative_prompt="blurred", width=128, height=96),
        image(2, cfg_scale=1.0, prompt="a red circle " * 100),
        image(3, scheduler="heun", cfg_scale=3.0, prompt=""),
        image(4, scheduler="lcm", cfg_scale=3.0),
    ],
    ids=lambda wanted: wanted.scheduler,
)
def test_pictures_are_those_of_diffusers(sd_3: Flow, wanted: object) -> None:
    expected = sd_3.render(wanted)
    assert expected.std() > 10, "the picture must show something for the comparison to say anything"
    assert difference(render(sd_3.ours, [wanted])[0], expected) <= 1


def test_it_renders_without_t5_as_diffusers_does(sd_3: Flow, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    shutil.copytree(sd_3.model.path, folder, ignore=shutil.ignore_patterns("*_3"))
    without = load_pipeline(replace(sd_3.model, path=str(folder)), CPU, "float32", cores=2)
    wanted = image(cfg_scale=4.5, negative_prompt="blurred")
    plain = sd_3.as_kind(StableDiffusion3Pipeline, text_encoder_3=None, tokenizer_3=None)
    made = render(without, [wanted])[0]
    assert difference(made, sd_3.render(wanted, plain)) <= 1
    assert difference(made, render(sd_3.ours, [wanted])[0]) > 10


def test_texts_are_encoded_as_diffusers_does(sd_3: Flow) -> None:
    for text in ("", "a red circle", "word " * 300):
        with torch.inference_mode():
            rows, _, pooled, _ = sd_3.plain.encode_prompt(text, None, None, do_classifier_free_guidance=False)
        ours = sd_3.ours.prompts.encode([text])[text]
        assert ours.pooled is not None
        assert torch.allclose(ours.rows, rows[0], atol=1e-5)
        assert torch.allclose(ours.pooled, pooled[0], atol=1e-5)


@pytest.mark.parametrize(("scheduler", "strength"), [("euler", 0.55), ("heun", 0.3)])
def test_pictures_from_pictures_are_those_of_diffusers(
    sd_3: Flow, tmp_path: Path, scheduler: str, strength: float
) -> None:
    init, wanted = drawn_picture(), image(cfg_scale=3.0, scheduler=scheduler, steps=6)
    asked = replace(wanted, init=Init(image="init.png", strength=strength))
    made, [lane] = make(desk_of(sd_3.ours, tmp_path, {"init.png": init}), asked)
    plain = sd_3.as_kind(StableDiffusion3Img2ImgPipeline)
    assert difference(made.pixels, sd_3.render(wanted, plain, image=init, strength=strength)) <= 1
    assert len(lane.timesteps) < len(lane.scheduler.timesteps)


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_painted_pictures_are_those_of_diffusers(sd_3: Flow, tmp_path: Path, strength: float) -> None:
    init, mask = drawn_picture(), PIL.Image.new("L", (64, 64), 255)
    mask.paste(0, (16, 24, 48, 56))
    wanted = image(cfg_scale=3.0, steps=5)
    asked = replace(
        wanted,
        init=Init(image="init.png", strength=strength),
        mask=Mask(image="mask.png", paste_back=False, color_correct=False),
    )
    _, [lane] = make(desk_of(sd_3.ours, tmp_path, {"init.png": init, "mask.png": mask}), asked)
    plain = sd_3.as_kind(StableDiffusion3InpaintPipeline)
    words = {"image": init, "mask_image": PIL.ImageOps.invert(mask), "strength": strength}
    # Their latents, since that pipeline decodes them without the shift of the VAE.
    expected = torch.from_numpy(sd_3.render(wanted, plain, **words, output_type="latent"))
    assert torch.allclose(lane.latents[0], expected, atol=1e-4)


# -- many lanes, one forward ---------------------------------------------------------------------------------------


def test_lanes_that_join_and_leave_give_the_bits_they_give_alone(sd_3: Flow) -> None:
    images = [
        image(1, steps=4),
        image(2, steps=5, scheduler="heun", prompt="a green square", negative_prompt="red"),
        image(3, steps=3, cfg_scale=1.0, scheduler="lcm"),
        image(4, steps=6, cfg_scale=3.0, prompt="a red star " * 90),
    ]
    together, shared = render_joining(sd_3.ours, images)
    assert max(shared) >= 3
    for wanted, picture in zip(images, together, strict=True):
        assert np.array_equal(picture, render(sd_3.ours, [wanted])[0]), wanted


def test_a_row_gets_the_same_bits_however_many_share_its_forward(sd_3: Flow) -> None:
    assert_rows_are_steady(sd_3.ours)


def test_texts_encoded_together_have_the_bits_they_have_alone(sd_3: Flow) -> None:
    assert_texts_are_steady(sd_3.ours)


# -- what it cannot ------------------------------------------------------------------------------------------------


def test_what_the_model_knows_nothing_of_is_told(sd_3: Flow) -> None:
    plain, weighed, tile, told = start_lanes(
        sd_3.ours,
        [image(prompt="a red circle"), image(prompt="a (red)1.4 circle"), image(seamless_x=True), image(guidance=3.0)],
    )
    found = [lane.warnings for lane in (plain, weighed, tile, told)]
    assert found == [[], [WEIGHTS], [SEAMLESS], [GUIDANCE]]
    assert pick([plain, weighed, told]) == [plain, weighed, told]
    assert torch.equal(weighed.conditioning.texts, plain.conditioning.texts)


def test_other_schedulers_are_refused_and_those_that_can_are_named(sd_3: Flow) -> None:
    with pytest.raises(RenderError, match='"dpmpp_2m" cannot follow the flow of this model; euler, heun, lcm can'):
        start_lanes(sd_3.ours, [image(scheduler="dpmpp_2m")])


def test_a_picture_that_is_larger_than_the_model_has_places_for_is_refused(sd_3: Flow) -> None:
    with pytest.raises(RenderError, match="at most 640 pixels along a side, and 64 × 648 were asked"):
        start_lanes(sd_3.ours, [image(height=648)])
