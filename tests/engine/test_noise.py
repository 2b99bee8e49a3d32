"""Noise by the formulas of InvokeAI 2.3: seeds on the CPU, seeds mixed on a sphere, Perlin noise mixed in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from invokeai_daemon.engine.noise import draw, first_noise, perlin_field, seeded, slerp
from tests.engine.build import image

SHAPE = (1, 4, 24, 16)


def gaussian(seed: int) -> torch.Tensor:
    return torch.randn(*SHAPE, generator=torch.Generator("cpu").manual_seed(seed))


def test_a_seed_is_torchs_own_noise_of_the_cpu() -> None:
    noise, generator = first_noise(image(seed=7), SHAPE)
    assert torch.equal(noise, gaussian(7))
    drawing_on = torch.Generator("cpu").manual_seed(7)
    torch.randn(*SHAPE, generator=drawing_on)
    assert torch.equal(torch.randn(3, generator=generator), torch.randn(3, generator=drawing_on))


def test_the_ends_of_a_mixture_are_the_seeds_themselves() -> None:
    assert torch.equal(slerp(0.0, gaussian(1), gaussian(2)), gaussian(1))
    assert torch.equal(slerp(1.0, gaussian(1), gaussian(2)), gaussian(2))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_mixture_lies_on_the_great_circle_between_two_seeds(share: float) -> None:
    one, other = (gaussian(seed).numpy().astype(np.float64).ravel() for seed in (1, 2))
    mixed = slerp(share, gaussian(1), gaussian(2)).numpy().astype(np.float64).ravel()
    angle = math.acos(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    expected = math.sin((1 - share) * angle) / math.sin(angle) * one + math.sin(share * angle) / math.sin(angle) * other
    assert np.abs(mixed - expected).max() < 1e-5
    # A straight line would lose three tenths of the spread half way.
    assert mixed.std() == pytest.approx(1, abs=0.05)


def test_noises_that_are_nearly_the_same_are_mixed_along_a_line() -> None:
    one = gaussian(1)
    assert torch.allclose(slerp(0.25, one, 1.5 * one), 1.125 * one)


def test_variations_are_mixed_in_one_after_another() -> None:
    mixed, generator = first_noise(image(seed=1, variations=((2, 0.3), (3, 0.6))), SHAPE)
    assert torch.equal(mixed, slerp(0.6, slerp(0.3, gaussian(1), gaussian(2)), gaussian(3)))
    # The generator of the last seed draws on, so that a whole other seed is that other seed also for noisy schedulers.
    draw(last := seeded(3), SHAPE, 0.0)
    assert torch.equal(torch.randn(3, generator=generator), torch.randn(3, generator=last))


def perlin_by_the_book(height: int, width: int, angles: np.ndarray) -> np.ndarray:
    """Point by point: gradients at the corners of a cell, faded into each other."""
    down, right = math.ceil(height / 8), math.ceil(width / 8)
    field = np.zeros((height, width))

    def fade(t: float) -> float:
        return 6 * t**5 - 15 * t**4 + 10 * t**3

    for row in range(height):
        for column in range(width):
            cell, y, x = (row // down, column // right), row % down / down, column % right / right
            dots = {
                (a, b): math.cos(angles[cell[0] + a, cell[1] + b]) * (y - a)
                + math.sin(angles[cell[0] + a, cell[1] + b]) * (x - b)
                for a in (0, 1)
                for b in (0, 1)
            }
            first = dots[0, 0] + fade(y) * (dots[1, 0] - dots[0, 0])
            second = dots[0, 1] + fade(y) * (dots[1, 1] - dots[0, 1])
            field[row, column] = math.sqrt(2) * (first + fade(x) * (second - first))
    return field


@pytest.mark.parametrize("size", [(16, 24), (13, 17)])
def test_perlin_noise_is_that_of_the_book(size: tuple[int, int]) -> None:
    angles = 2 * math.pi * torch.rand(9, 9, generator=torch.Generator("cpu").manual_seed(5)).numpy()
    field = perlin_field(*size, torch.Generator("cpu").manual_seed(5))
    assert field.shape == size
    assert np.abs(field.numpy() - perlin_by_the_book(size[0], size[1], angles)).max() < 1e-5


def test_perlin_noise_is_smooth_bounded_and_nothing_at_the_corners_of_its_cells() -> None:
    fields = torch.stack([perlin_field(64, 64, torch.Generator("cpu").manual_seed(seed)) for seed in range(40)])
    assert float(fields.abs().max()) <= 1
    assert abs(float(fields.mean())) < 0.05
    assert 0.2 < float(fields.std()) < 0.45
    assert float(fields[:, ::8, ::8].abs().max()) < 1e-6
    assert float((fields[:, 1:] - fields[:, :-1]).abs().max()) < 0.5


def test_a_share_of_perlin_noise_is_mixed_into_every_seed_after_its_own_noise_was_drawn() -> None:
    generator = torch.Generator("cpu").manual_seed(7)
    own = torch.randn(*SHAPE, generator=generator)
    fields = torch.stack([perlin_field(24, 16, generator) for _ in range(4)])[None]
    assert torch.allclose(first_noise(image(seed=7, perlin=0.25), SHAPE)[0], 0.75 * own + 0.25 * fields)
    assert torch.equal(first_noise(image(seed=7, perlin=1.0), SHAPE)[0], fields)
    mixed = first_noise(image(seed=7, perlin=0.25, variations=((8, 0.5),)), SHAPE)[0]
    assert torch.equal(mixed, slerp(0.5, *(draw(seeded(seed), SHAPE, 0.25) for seed in (7, 8))))
