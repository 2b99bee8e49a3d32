"""What an image may ask of its noise and its steps: as diffusers has it, apart from neighbours, with an effect."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from invokeai_daemon.engine.decode import decode
from invokeai_daemon.engine.denoise import denoise_step, pick
from invokeai_daemon.engine.lanes import Lane, encode_texts, start_lane
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.schedulers import SCHEDULERS
from tests.engine.build import image
from tests.engine.conftest import difference, render, render_plainly, start_lanes

NOISY = "euler_a"
#: Schedulers whose steps do not depend on the steps before.
MEMORYLESS = [name for name in SCHEDULERS if name.startswith(("ddim", "ddpm", "heun", "euler", "kdpm", "lcm", "tcd"))]
KNOBS: list[dict[str, Any]] = [
    {"variations": ((9, 0.4), (10, 0.2)), "scheduler": NOISY},
    {"perlin": 0.3, "scheduler": NOISY},
    {"threshold": 0.5, "scheduler": "dpmpp_2m_sde"},
    {"h_symmetry_time_pct": 0.3, "v_symmetry_time_pct": 0.3},
    {"seamless_x": True},
    {"seamless_x": True, "seamless_y": True, "scheduler": "heun"},
    {"cfg_rescale_multiplier": 0.7, "scheduler": "lms_k"},
    {"denoising_start": 0.3, "scheduler": NOISY},
    {"denoising_end": 0.7, "scheduler": "heun"},
]
IMAGES = [image(number, steps=6, **knobs) for number, knobs in enumerate(KNOBS, start=1)]


def test_every_knob_shows_in_the_picture(pipeline: Pipeline) -> None:
    plain = render(pipeline, [image(each.number, steps=6, scheduler=each.scheduler) for each in IMAGES])
    for wanted, picture, usual in zip(IMAGES, render(pipeline, IMAGES), plain, strict=True):
        assert difference(picture, usual) > 2, wanted


def test_neighbours_change_no_bit_of_any_of_them(pipeline: Pipeline) -> None:
    neighbours = [image(number + 20, steps=6, seamless_x=number % 2 == 0) for number in range(6)]
    lanes = start_lanes(pipeline, [*IMAGES, *neighbours])
    finish(lanes)
    for wanted, lane in zip(IMAGES, lanes, strict=False):
        [alone] = start_lanes(pipeline, [wanted])
        while not alone.is_done:
            assert not denoise_step([alone])
        assert torch.equal(alone.latents, lane.latents), wanted


def test_only_lanes_with_the_same_seams_share_a_forward(pipeline: Pipeline) -> None:
    lanes = start_lanes(pipeline, [image(1), image(2, seamless_x=True), image(3), image(4, seamless_x=True)])
    assert pick(lanes) == [lanes[0], lanes[2]]
    assert pick(lanes[1:]) == [lanes[1], lanes[3]]


@pytest.mark.parametrize("rescale", [0.4, 1.0])
def test_guidance_is_rescaled_as_diffusers_does(pipeline: Pipeline, plain: Any, rescale: float) -> None:
    wanted = image(scheduler="ddim", steps=8, cfg_rescale_multiplier=rescale)
    [ours] = render(pipeline, [wanted])
    assert difference(ours, render_plainly(plain, wanted, guidance_rescale=rescale)) <= 2


def test_a_text_encoder_without_its_last_layer_is_one_that_never_had_it(pipeline: Pipeline) -> None:
    [encoder] = pipeline.prompts.encoders
    shorter = copy.deepcopy(encoder.model)
    del shorter.encoder.layers[-1]
    expected, _ = replace(encoder, model=shorter).encode(["a red circle", ""])
    texts = encode_texts(pipeline, [image(clip_skip=1, prompt="a red circle")])[1]
    assert torch.equal(texts["a red circle"].rows, expected[0])
    assert torch.equal(texts[""].rows, expected[1])
    usual = pipeline.prompts.encode(["a red circle"])["a red circle"]
    assert not torch.allclose(usual.rows, expected[0], atol=0.1)


def test_pictures_with_and_without_the_last_layer_share_forwards(pipeline: Pipeline) -> None:
    wanted = [image(1, clip_skip=1), image(1)]
    encoded = encode_texts(pipeline, wanted)
    lanes = [start_lane(pipeline, each, encoded[each.clip_skip]) for each in wanted]
    assert pick(lanes) == lanes
    while not lanes[0].is_done:
        assert not denoise_step(lanes)
    skipped, usual = (decode([lane])[0].pixels for lane in lanes)
    assert difference(skipped, usual) > 2


def test_both_prompts_leave_out_the_same_layers(pipeline: Pipeline) -> None:
    encoded = encode_texts(pipeline, [image(clip_skip=1, prompt="a", negative_prompt="b"), image(prompt="a")])
    assert [set(texts) for _, texts in sorted(encoded.items())] == [{"", "a"}, {"a", "b"}]


def test_a_text_encoder_without_layers_is_an_error(pipeline: Pipeline) -> None:
    wanted = image(clip_skip=2)
    with pytest.raises(
        RenderError, match=r'clip_skip 2 leaves nothing .* Model "tiny" can do without 1 of its last layers'
    ):
        start_lane(pipeline, wanted, encode_texts(pipeline, [wanted])[2])


@pytest.mark.parametrize("scheduler", ["euler", NOISY])
def test_a_variation_goes_from_the_seed_to_another_seed(pipeline: Pipeline, scheduler: str) -> None:
    def mixed(*variations: tuple[int, float]) -> np.ndarray[Any, Any]:
        return render(pipeline, [image(seed=1, scheduler=scheduler, variations=variations)])[0]

    [one], [other] = (render(pipeline, [image(seed=seed, scheduler=scheduler)]) for seed in (1, 2))
    assert np.array_equal(mixed(), one)
    assert np.array_equal(mixed((2, 1.0)), other)
    assert not np.array_equal(mixed((2, 0.5)), one)
    assert np.array_equal(mixed((2, 0.5)), mixed((2, 0.5)))


def finish(lanes: Iterable[Lane]) -> None:
    """Make all steps of lanes, which share forwards."""
    while going := [lane for lane in lanes if not lane.is_done]:
        assert not denoise_step(pick(going))


@pytest.fixture(scope="module")
def halves(pipeline: Pipeline) -> dict[str, list[Lane]]:
    """Of each scheduler the first half of a run, the second, which goes on with its latents, and a whole run."""
    parts = ((0.0, 0.5), (0.5, 1.0), (0.0, 1.0))
    found = {
        name: start_lanes(
            pipeline, [image(scheduler=name, steps=8, denoising_start=a, denoising_end=b) for a, b in parts]
        )
        for name in MEMORYLESS
    }
    finish([lane for first, _, whole in found.values() for lane in (first, whole)])
    for first, last, _ in found.values():
        last.latents = first.latents
        if "generator" in last.step_arguments:
            last.step_arguments["generator"] = first.step_arguments["generator"]
    finish([last for _, last, _ in found.values()])
    return found


@pytest.mark.parametrize("name", MEMORYLESS)
def test_the_halves_of_a_run_are_the_run(halves: dict[str, list[Lane]], name: str) -> None:
    """A lane that begins in the middle, with the latents of one that ended there, ends like one that made it all."""
    first, last, whole = halves[name]
    assert len(first.timesteps) + len(last.timesteps) == len(whole.timesteps)
    assert torch.equal(torch.cat([first.timesteps, last.timesteps]), whole.timesteps)
    assert not torch.allclose(first.latents, whole.latents, atol=1e-1)
    assert torch.allclose(last.latents, whole.latents, atol=1e-4)


@pytest.fixture(scope="module")
def middles(pipeline: Pipeline) -> dict[str, Lane]:
    """The middle of a run, with each scheduler."""
    images = [image(scheduler=name, steps=10, denoising_start=0.4, denoising_end=0.8) for name in SCHEDULERS]
    lanes = start_lanes(pipeline, images)
    finish(lanes)
    return dict(zip(SCHEDULERS, lanes, strict=True))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_begins_and_ends_where_it_is_told(middles: dict[str, Lane], name: str) -> None:
    lane = middles[name]
    assert 0 < len(lane.timesteps) < len(lane.scheduler.timesteps)
    steps = lane.timesteps[:: lane.scheduler.order]
    assert 200 <= float(steps.min()) <= float(steps.max()) < 600
    assert torch.isfinite(lane.latents).all()
    assert lane.step == 10


def test_latents_are_mirrored_after_the_step_of_the_moment(pipeline: Pipeline) -> None:
    [lane] = start_lanes(pipeline, [image(steps=5, h_symmetry_time_pct=0.8, v_symmetry_time_pct=0.8)])
    while not lane.is_done:
        assert not torch.equal(lane.latents, lane.latents.flip(-1))
        assert not denoise_step([lane])
    assert torch.equal(lane.latents, lane.latents.flip(-1))
    assert torch.equal(lane.latents, lane.latents.flip(-2))


def test_a_part_without_a_step_is_an_error(pipeline: Pipeline) -> None:
    with pytest.raises(
        RenderError, match=r"none of the 4 steps lies between denoising_start 0\.5 and denoising_end 0\.51"
    ):
        start_lanes(pipeline, [image(denoising_start=0.5, denoising_end=0.51)])


def test_a_run_that_begins_late_begins_with_noise_of_that_moment(pipeline: Pipeline) -> None:
    late, whole = start_lanes(pipeline, [image(steps=10, denoising_start=0.5), image(steps=10)])
    level = float(whole.scheduler.sigmas[whole.scheduler.timesteps.tolist().index(float(late.timesteps[0]))])
    assert float(late.latents.std()) == pytest.approx(level, rel=0.1)
    assert level < float(whole.latents.std()) / 2


@pytest.fixture(scope="module")
def shown(pipeline: Pipeline) -> dict[str, Lane]:
    """A run of which every step is shown, with each scheduler."""
    images = [image(scheduler=name, steps=12, save_intermediates=1, cfg_scale=1.0) for name in SCHEDULERS]
    lanes = start_lanes(pipeline, images)
    finish(lanes)
    return dict(zip(SCHEDULERS, lanes, strict=True))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_a_step_is_expected_to_end_in_becomes_what_it_ends_in(shown: dict[str, Lane], name: str) -> None:
    lane = shown[name]
    assert lane.expected is not None
    assert float((lane.expected - lane.latents).abs().mean()) < 0.25 * float(lane.latents.std())


@pytest.mark.parametrize(
    ("every", "expected"), [(0, []), (1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (3, [0, 3, 4]), (9, [0, 4])]
)
def test_pictures_are_wanted_of_every_so_many_steps_and_of_the_last(
    pipeline: Pipeline, every: int, expected: list[int]
) -> None:
    [lane] = start_lanes(pipeline, [image(steps=5, save_intermediates=every)])
    shown = []
    while not lane.is_done:
        assert not denoise_step([lane])
        if lane.expected is not None:
            shown.append(lane.index - 1)
    assert shown == expected
