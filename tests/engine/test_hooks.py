"""What is done between steps, by the formulas of InvokeAI 2.3."""

from __future__ import annotations

import pytest
import torch

from invokeai_daemon.engine.hooks import HEIGHT, WIDTH, hooks_of, mirror, tame
from tests.engine.build import image


def generator() -> torch.Generator:
    return torch.Generator("cpu").manual_seed(1)


def spread(largest: float) -> torch.Tensor:
    return torch.linspace(-largest, largest, 4 * 8 * 8).reshape(1, 4, 8, 8)


def test_an_image_that_asks_for_nothing_has_no_hooks() -> None:
    assert hooks_of(image(), generator()) == ()
    assert len(hooks_of(image(threshold=1.0, h_symmetry_time_pct=0.2, v_symmetry_time_pct=0.2), generator())) == 3


def test_latents_within_the_threshold_stay() -> None:
    latents = spread(3.0)
    assert tame(latents, 8, 10, threshold=3.0, generator=generator()) is latents


@pytest.mark.parametrize(("index", "limit"), [(0, 12.0), (1, 7.0), (2, 2.0), (9, 2.0)])
def test_the_threshold_falls_from_six_times_its_value_in_the_first_fifth(index: int, limit: float) -> None:
    inside, beyond = spread(limit - 0.01), spread(limit + 0.01)
    assert torch.equal(tame(inside, index, 10, threshold=2.0, generator=generator()), inside)
    assert not torch.equal(tame(beyond, index, 10, threshold=2.0, generator=generator()), beyond)


def test_what_lies_beyond_is_drawn_between_nothing_and_the_bound_of_its_side() -> None:
    latents = spread(10.0)
    tamed = tame(latents, 9, 10, threshold=4.0, generator=generator())
    # 0.7 · 10 is more than the threshold, so the threshold is the bound.
    beyond, before = latents > 4, latents < -4
    kept = ~(beyond | before)
    assert torch.equal(tamed[kept], latents[kept])
    assert 0 <= float(tamed[beyond].min()) < float(tamed[beyond].max()) <= 4
    assert 0 >= float(tamed[before].max()) > float(tamed[before].min()) >= -4
    assert float(tamed[beyond].mean()) == pytest.approx(2, abs=0.5)


def test_the_bound_is_seven_tenths_of_the_largest_where_that_is_less() -> None:
    latents = spread(4.4)
    tamed = tame(latents, 9, 10, threshold=4.0, generator=generator())
    assert float(tamed.abs().max()) <= 0.7 * 4.4 + 1e-5
    changed = tamed != latents
    assert torch.equal(changed, latents.abs() > 0.7 * 4.4)


def test_one_side_beyond_the_threshold_leaves_the_other() -> None:
    latents = spread(5.0).clamp(min=-2.0)
    tamed = tame(latents, 9, 10, threshold=3.0, generator=generator())
    assert torch.equal(tamed[latents < 0], latents[latents < 0])
    assert not torch.equal(tamed, latents)


@pytest.mark.parametrize(("dimension", "size"), [(WIDTH, (6, 8)), (HEIGHT, (6, 8)), (WIDTH, (5, 9)), (HEIGHT, (5, 9))])
def test_a_mirrored_half_is_the_other_half_reversed(dimension: int, size: tuple[int, int]) -> None:
    latents = torch.randn(1, 4, *size)
    mirrored = mirror(latents, 5, 10, dimension=dimension, moment=0.5)
    assert torch.equal(mirrored, mirrored.flip(dimension))
    half = size[dimension] // 2
    assert torch.equal(mirrored.narrow(dimension, 0, half), latents.narrow(dimension, 0, half))


@pytest.mark.parametrize(
    ("moment", "count", "expected"),
    [(0.5, 10, [5]), (0.05, 10, [1]), (0.55, 10, [6]), (1.0, 10, []), (0.95, 10, []), (1 / 3, 9, [3]), (0.5, 1, [])],
)
def test_each_axis_is_mirrored_once_and_never_after_the_first_step_or_at_the_very_end(
    moment: float, count: int, expected: list[int]
) -> None:
    latents = torch.randn(1, 4, 8, 8)
    fired = [
        index for index in range(count) if mirror(latents, index, count, dimension=WIDTH, moment=moment) is not latents
    ]
    assert fired == expected
