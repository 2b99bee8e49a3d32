"""Families: each gives the pictures of diffusers' own pipeline, through the one loop, whoever shares its forwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from invokeai_daemon.engine.decode import decode
from invokeai_daemon.engine.denoise import denoise_step, pick, predict
from invokeai_daemon.engine.loading.pipeline import Pipeline, load_pipeline
from invokeai_daemon.engine.scheduling.schedulers import NOT_FROM_PURE_NOISE
from invokeai_daemon.errors import ModelError
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.job.schedulers import SCHEDULERS
from tests.engine.build import ZERO_SNR, build_sd_2, build_sdxl, image
from tests.engine.conftest import (
    VARIED,
    difference,
    load_plainly,
    render,
    render_plainly,
    render_staggered,
    start_lanes,
)
from tests.engine.steadiness import assert_rows_are_steady, assert_texts_are_steady

CPU = torch.device("cpu")


class Pair:
    """A model as it is loaded here and as diffusers loads it."""

    def __init__(self, ours: Pipeline, plain: Any) -> None:
        self.model, self.ours, self.plain = ours.model, ours, plain


MODELS: dict[str, Callable[[Path], ModelRef]] = {
    "sd-2 epsilon": lambda folder: build_sd_2(folder, "epsilon"),
    "sd-2 v": lambda folder: build_sd_2(folder, "v_prediction"),
    "sd-2 v from pure noise": lambda folder: build_sd_2(folder, "v_prediction", **ZERO_SNR),
    "sdxl v": lambda folder: build_sdxl(folder, "v_prediction", forces_zeros=False),
    "sdxl v from pure noise": lambda folder: build_sdxl(folder, "v_prediction", **ZERO_SNR),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, xl: Pipeline, plain_xl: Any) -> Callable[[str], Pair]:
    """`made("sdxl")`: one of the models, made once."""
    pairs = {"sdxl": Pair(xl, plain_xl)}

    def get(name: str) -> Pair:
        if name not in pairs:
            model = MODELS[name](tmp_path_factory.mktemp("models") / "tiny")
            pairs[name] = Pair(load_pipeline(model, CPU, "float32", cores=2), load_plainly(model))
        return pairs[name]

    return get


@pytest.fixture(scope="module")
def sdxl(made: Callable[[str], Pair]) -> Pair:
    return made("sdxl")


# -- the pictures of diffusers -------------------------------------------------------------------------------------


#: One of each class, for what differs from the models of tests/engine/test_schedulers.py: another prediction.
CLASSES = [name for name in SCHEDULERS if not name.endswith("_k") and name != "dpmpp_3m"]
SOME = ["euler", "dpmpp_2m_k", "heun"]
COMPARED = {"sd-2 v": CLASSES, "sdxl v from pure noise": [*SOME, "ddim", "unipc", "lcm"]}


@pytest.mark.parametrize("name", ["sdxl", *MODELS])
def test_schedulers_give_the_pictures_of_diffusers(made: Callable[[str], Pair], name: str) -> None:
    pair = made(name)
    images = [
        image(number, scheduler=scheduler, steps=4, negative_prompt="blurred", width=128 if number % 4 == 0 else 64)
        for number, scheduler in enumerate(COMPARED.get(name, SOME), start=1)
    ]
    differences = {}
    for wanted in images:
        expected = render_plainly(pair.plain, wanted)
        assert expected.std() > 2, "the picture must show something for the comparison to say anything"
        differences[wanted.scheduler] = difference(render(pair.ours, [wanted])[0], expected)
    assert max(differences.values()) <= 2, differences


@pytest.mark.parametrize("name", ["sdxl", "sdxl v"])
def test_an_empty_negative_prompt_is_what_the_pipeline_takes_for_none(made: Callable[[str], Pair], name: str) -> None:
    pair, wanted = made(name), image(steps=6)
    [ours] = render(pair.ours, [wanted])
    assert difference(ours, render_plainly(pair.plain, wanted, negative_prompt=None)) <= 2
    forces_zeros = pair.plain.config.force_zeros_for_empty_prompt
    assert (difference(ours, render_plainly(pair.plain, wanted, negative_prompt="")) > 2) == forces_zeros


@pytest.mark.parametrize("name", ["sdxl", *MODELS])
def test_guidance_of_one_and_empty_prompts_are_those_of_diffusers(made: Callable[[str], Pair], name: str) -> None:
    pair = made(name)
    for wanted in (image(cfg_scale=1.0, negative_prompt="blurred"), image(prompt="", negative_prompt="blurred")):
        assert difference(render(pair.ours, [wanted])[0], render_plainly(pair.plain, wanted)) <= 2


def test_the_texts_are_encoded_as_diffusers_does(sdxl: Pair) -> None:
    for text in ("", "a red circle", "ein grüner Kreis, 日本", "word " * 75):
        with torch.inference_mode():
            rows, _, pooled, _ = sdxl.plain.encode_prompt(text, device=CPU, do_classifier_free_guidance=False)
        ours = sdxl.ours.prompts.encode([text])[text]
        assert ours.pooled is not None
        assert torch.allclose(ours.rows, rows[0], atol=1e-5)
        assert torch.allclose(ours.pooled, pooled[0], atol=1e-5)


@torch.inference_mode()
def test_a_refiner_gives_the_picture_of_diffusers(refiner: Pipeline, plain_refiner: Any) -> None:
    wanted = image(negative_prompt="blurred", steps=6)
    [lane] = start_lanes(refiner, [wanted])
    # Its pipeline begins with a picture: a grey one under the noise of the first step.
    noise = torch.randn(lane.latents.shape, generator=torch.Generator("cpu").manual_seed(wanted.seed))
    lane.latents = lane.scheduler.add_noise(torch.zeros_like(noise), noise, lane.scheduler.timesteps[:1])
    while not lane.is_done:
        assert not denoise_step([lane])
    expected = plain_refiner(
        wanted.prompt,
        negative_prompt=wanted.negative_prompt,
        image=torch.zeros_like(noise),
        strength=1.0,
        num_inference_steps=wanted.steps,
        guidance_scale=wanted.cfg_scale,
        original_size=(64, 64),
        target_size=(64, 64),
        generator=torch.Generator("cpu").manual_seed(wanted.seed),
    ).images[0]
    assert difference(decode([lane])[0].pixels, np.asarray(expected)) <= 2


def test_a_scheduler_that_cannot_begin_with_pure_noise_is_told(made: Callable[[str], Pair]) -> None:
    images = [image(1, scheduler="heun"), image(2, scheduler="euler")]
    doubted, sound = start_lanes(made("sdxl v from pure noise").ours, images)
    assert (doubted.warnings, sound.warnings) == ([NOT_FROM_PURE_NOISE], [])
    assert [lane.warnings for lane in start_lanes(made("sdxl v").ours, images)] == [[], []]


def test_latents_are_spread_as_the_vae_says(sdxl: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"latents_mean": [0.1, -0.2, 0.3, 0.4], "latents_std": [1.1, 0.9, 1.2, 0.8]}
    for vae in (sdxl.ours.vae.model, sdxl.plain.vae):
        monkeypatch.setattr(vae, "_internal_dict", type(vae.config)({**vae.config, **words}))
    assert difference(render(sdxl.ours, [VARIED[1]])[0], render_plainly(sdxl.plain, VARIED[1])) <= 2


# -- many lanes, one forward ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sd-2 v", "sdxl"])
def test_lanes_that_join_and_leave_give_the_bits_they_give_alone(made: Callable[[str], Pair], name: str) -> None:
    pipeline = made(name).ours
    together, shared = render_staggered(pipeline)
    assert max(shared) >= 4
    for wanted, picture in zip(VARIED, together, strict=True):
        assert np.array_equal(picture, render(pipeline, [wanted])[0]), wanted


def test_a_row_gets_the_same_bits_however_many_share_its_forward(sdxl: Pair) -> None:
    assert_rows_are_steady(sdxl.ours, [(17, 9, 11), (3, 24, 32)])


def test_texts_encoded_together_have_the_bits_they_have_alone(sdxl: Pair) -> None:
    assert_texts_are_steady(sdxl.ours)


def test_a_lane_is_told_its_own_size_and_text(sdxl: Pair) -> None:
    wide, high = start_lanes(sdxl.ours, [image(width=128, height=64), image(width=64, height=128)])
    assert pick([wide, high]) == [wide]
    assert wide.conditioning.added["time_ids"].tolist() == [[64, 128, 0, 0, 64, 128]] * 2
    assert high.conditioning.added["time_ids"].tolist() == [[128, 64, 0, 0, 128, 64]] * 2


@pytest.mark.parametrize("name", ["text_embeds", "time_ids"])
def test_the_denoiser_heeds_all_that_it_is_told(sdxl: Pair, name: str) -> None:
    [lane] = start_lanes(sdxl.ours, [image(negative_prompt="blurred")])
    [before] = predict([lane])
    added = dict(lane.conditioning.added)
    lane.conditioning = replace(lane.conditioning, added={**added, name: added[name] + 1})
    assert not torch.equal(predict([lane])[0], before)


# -- loading -------------------------------------------------------------------------------------------------------


def test_a_pipeline_counts_the_weights_of_all_its_parts(sdxl: Pair) -> None:
    encoders = [encoder.model for encoder in sdxl.ours.prompts.encoders]
    assert len(encoders) == 2
    parts = [sdxl.ours.denoiser.model, sdxl.ours.vae.model, *encoders]
    assert sdxl.ours.size == sum(tensor.nbytes for part in parts for tensor in (*part.parameters(), *part.buffers()))


def test_small_models_stay_exact_and_short_numbers_are_short_in_all_parts_but_the_vae(sdxl: Pair) -> None:
    for precision, dtype in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        told: list[int] = []
        loaded = load_pipeline(sdxl.model, CPU, precision, cores=1, make_room=told.append)
        assert {loaded.denoiser.model.dtype, *(encoder.model.dtype for encoder in loaded.prompts.encoders)} == {dtype}
        assert loaded.vae.dtype is torch.float32
        # The memory is known before; what is not in the files are the numbers of the positions.
        assert told[0] <= loaded.size <= told[0] + 2 * 77 * 8
    # The last one, whose numbers are short.
    for exact, rounded in zip(render(sdxl.ours, VARIED), render(loaded, VARIED), strict=True):
        assert 0 < np.abs(exact.astype(float) - rounded).mean() < 4


def test_weights_stored_in_half_are_found_in_every_part(sdxl: Pair, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    shutil.copytree(sdxl.model.path, folder)
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))
    assert load_pipeline(replace(sdxl.model, path=str(folder)), CPU, "auto", cores=1).size > 0


def test_a_model_of_another_base_is_told_what_can_be_loaded(sdxl: Pair) -> None:
    with pytest.raises(ModelError, match=r"is a flux2 model; sd-1, .*, sd-3, flux models can be loaded"):
        load_pipeline(replace(sdxl.model, base="flux2"), CPU, "auto", cores=1)
