"""The loop: one forward for all lanes that fit, lanes that join and leave, and bits that no neighbour changes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from invokeai_daemon.engine.denoise import denoise_step, lane_limit, pick
from invokeai_daemon.engine.lanes import Lane
from invokeai_daemon.engine.loading.pipeline import Pipeline, load_pipeline
from invokeai_daemon.errors import RenderError
from tests.engine.build import image, new_unet
from tests.engine.conftest import VARIED, difference, render, render_staggered, start_lanes


@pytest.fixture
def forwards(pipeline: Pipeline) -> Iterator[list[int]]:
    """The rows of each forward of the UNet while the test runs."""
    rows: list[int] = []
    hook = pipeline.denoiser.model.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    yield rows
    hook.remove()


def test_four_iterations_take_one_forward_per_step(pipeline: Pipeline, forwards: list[int]) -> None:
    render(pipeline, [image(number, steps=5) for number in (1, 2, 3, 4)])
    assert forwards == [8] * 5


def test_guidance_of_one_takes_one_row(pipeline: Pipeline, forwards: list[int]) -> None:
    render(pipeline, [image(1, cfg_scale=1.0, steps=2), image(2, cfg_scale=2.0, steps=2)])
    assert forwards == [3, 3]


def test_guidance_of_one_is_the_prompt_alone(pipeline: Pipeline) -> None:
    alone, ignoring = render(pipeline, [image(cfg_scale=1.0), image(cfg_scale=1.0, negative_prompt="blue")])
    assert np.array_equal(alone, ignoring)


def test_lanes_that_join_and_leave_give_the_bits_they_give_alone(pipeline: Pipeline) -> None:
    together, shared = render_staggered(pipeline)
    assert max(shared) >= 4
    for wanted, picture in zip(VARIED, together, strict=True):
        [alone] = render(pipeline, [wanted])
        assert np.array_equal(picture, alone), wanted


@pytest.mark.parametrize("threads", [1, 2])
def test_a_lane_gets_the_same_bits_however_many_share_its_forward(pipeline: Pipeline, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _compare_rows(pipeline, 8, 8)
    finally:
        torch.set_num_threads(before)


def test_a_lane_of_any_size_gets_the_same_bits_however_many_share_its_forward(pipeline: Pipeline) -> None:
    for size in ([8, 16], [9, 11], [24, 32]):
        _compare_rows(pipeline, *size)


@torch.inference_mode()
def _compare_rows(pipeline: Pipeline, height: int, width: int) -> None:
    latents, timesteps = torch.randn(17, 4, height, width), torch.randint(1000, (17,)).float()
    conditioning = torch.randn(17, 77, 32)
    everything = pipeline.denoiser.model(latents, timesteps, conditioning, return_dict=False)[0]
    for count in (1, 2, 3, 7, 16):
        part = pipeline.denoiser.model(latents[:count], timesteps[:count], conditioning[:count], return_dict=False)[0]
        assert torch.equal(part, everything[:count]), f"{count} rows of {height}×{width}"


def test_rendering_again_gives_identical_pixels(pipeline: Pipeline) -> None:
    images = [image(1, scheduler="euler_a"), image(2, scheduler="dpmpp_2m_sde_k")]
    for first, again in zip(render(pipeline, images), render(pipeline, images), strict=True):
        assert np.array_equal(first, again)


def test_short_numbers_give_nearly_the_same_picture(pipeline: Pipeline) -> None:
    short = load_pipeline(pipeline.model, torch.device("cpu"), "bfloat16", cores=1)
    assert short.dtype is torch.bfloat16
    for exact, rounded in zip(render(pipeline, VARIED), render(short, VARIED), strict=True):
        assert difference(exact, rounded) > 0
        assert np.abs(exact.astype(float) - rounded).mean() < 4


def test_rendering_leaves_no_trace_in_the_model(pipeline: Pipeline) -> None:
    parts = (pipeline.denoiser.model, pipeline.vae.model)
    before = [{name: tensor.clone() for name, tensor in part.state_dict().items()} for part in parts]
    render(pipeline, VARIED)
    for part, state in zip(parts, before, strict=True):
        assert part.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in part.state_dict().items())


def test_only_lanes_of_one_size_share_a_forward(pipeline: Pipeline) -> None:
    lanes = start_lanes(pipeline, [image(1), image(2, width=128), image(3)])
    assert pick(lanes) == [lanes[0], lanes[2]]


def test_a_lane_that_must_be_alone_shares_with_nobody(pipeline: Pipeline) -> None:
    lanes = start_lanes(pipeline, [image(1), image(2), image(3)])
    lanes[0].alone = lanes[2].alone = True
    assert [pick(lanes[start:]) for start in range(3)] == [[lanes[0]], [lanes[1]], [lanes[2]]]


class BrokenSchedulerError(Exception):
    pass


def test_a_lane_whose_scheduler_fails_stops_nobody(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise BrokenSchedulerError

    bad, good = start_lanes(pipeline, [image(1), image(2)])
    monkeypatch.setattr(bad.scheduler, "step", fail)
    bad.step_arguments = {}
    failed = denoise_step([bad, good])
    assert list(failed) == [bad]
    assert isinstance(failed[bad], BrokenSchedulerError)
    assert good.index == 1


def test_a_lane_counts_steps_not_forwards(pipeline: Pipeline) -> None:
    [lane] = start_lanes(pipeline, [image(scheduler="heun", steps=4)])
    seen = [lane.step]
    while not lane.is_done:
        denoise_step([lane])
        seen.append(lane.step)
    assert len(seen) == 8
    assert (seen[0], seen[-1]) == (0, 4)
    assert seen == sorted(seen)


def test_the_noise_is_drawn_on_the_cpu_from_the_seed(pipeline: Pipeline) -> None:
    [lane] = start_lanes(pipeline, [image(scheduler="ddim", seed=7, width=64, height=128)])
    expected = torch.randn(1, 4, 16, 8, generator=torch.Generator("cpu").manual_seed(7))
    assert torch.equal(lane.latents, expected)


def test_a_model_that_changes_pictures_cannot_start_from_text(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.denoiser, "model", new_unet(in_channels=8))
    with pytest.raises(RenderError, match="takes 8 channels"):
        start_lanes(pipeline, [image()])


@pytest.mark.parametrize(("side", "expected"), [(64, 16), (512, 8), (1024, 2), (4096, 1)])
def test_larger_pictures_share_with_fewer(pipeline: Pipeline, side: int, expected: int) -> None:
    assert lane_limit(pipeline, side, side, max_lanes=16) == expected


def test_a_lane_is_itself_whatever_another_holds(pipeline: Pipeline) -> None:
    one, other = start_lanes(pipeline, [image(), image()])
    assert isinstance(one, Lane)
    assert one != other


def test_rows_that_are_computed_one_after_the_other_give_the_same_bits(pipeline: Pipeline) -> None:
    together, apart = start_lanes(pipeline, [image(1)])[0], start_lanes(pipeline, [image(1)])[0]
    apart.is_sequential = True
    while not apart.is_done:
        denoise_step([together])
        denoise_step([apart])
    assert torch.equal(together.latents, apart.latents)
