"""Noise: what a picture is made of, drawn on the CPU so that a seed means the same picture everywhere.

Called when a lane starts. Seeds mix on the sphere that noise lies on; Perlin noise mixes into each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invokeai_daemon.job.plan import Image

#: Cells of a Perlin field, along each side.
CELLS = 8
#: Noises that are more alike than this are mixed along the straight line between them.
PARALLEL = 0.9995


def seeded(seed: int) -> torch.Generator:
    """What draws all that is random in the image of a seed."""
    return torch.Generator("cpu").manual_seed(seed)


def first_noise(
    image: Image, shape: Sequence[int], generator: torch.Generator | None = None
) -> tuple[Tensor, torch.Generator]:
    """The noise that an image starts from, and the generator that drew the last of it and draws on.

    `generator` is the one of the image's seed, where it drew something before.
    """
    generator = generator or seeded(image.seed)
    noise = draw(generator, shape, image.perlin)
    for seed, weight in image.variations:
        generator = seeded(seed)
        noise = slerp(weight, noise, draw(generator, shape, image.perlin))
    return noise, generator


def draw(generator: torch.Generator, shape: Sequence[int], perlin: float) -> Tensor:
    """Noise, [1, channels, height, width], with a share of Perlin noise."""
    noise = torch.randn(*shape, generator=generator)
    if perlin:
        _, channels, height, width = shape
        fields = [perlin_field(height, width, generator) for _ in range(channels)]
        noise = (1 - perlin) * noise + perlin * torch.stack(fields)[None]
    return noise


def slerp(share: float, one: Tensor, other: Tensor) -> Tensor:
    """`share` of the way from one noise to the other, on the great circle through them."""
    cosine = float((one * other).sum() / (one.norm() * other.norm()))
    if abs(cosine) > PARALLEL:
        return (1 - share) * one + share * other
    angle = math.acos(cosine)
    return math.sin((1 - share) * angle) / math.sin(angle) * one + math.sin(share * angle) / math.sin(angle) * other


def perlin_field(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Perlin noise of 8 × 8 cells, [height, width], about −1 … 1."""
    angles = 2 * math.pi * torch.rand(CELLS + 1, CELLS + 1, generator=generator)
    (cell_y, y), (cell_x, x) = _places(height), _places(width)

    def slope(down: int, right: int) -> Tensor:
        """The rise from the gradient at one corner of each cell to each place in it."""
        angle = angles[cell_y + down][:, cell_x + right]
        return torch.cos(angle) * (y - down)[:, None] + torch.sin(angle) * (x - right)

    left = torch.lerp(slope(0, 0), slope(1, 0), _fade(y)[:, None])
    right = torch.lerp(slope(0, 1), slope(1, 1), _fade(y)[:, None])
    return math.sqrt(2) * torch.lerp(left, right, _fade(x))


def _places(side: int) -> tuple[Tensor, Tensor]:
    """For each place along a side, its cell and how far into it the place is, 0 … 1. The last cell may be cut."""
    per_cell = -(-side // CELLS)
    places = torch.arange(side)
    return places // per_cell, (places % per_cell) / per_cell


def _fade(t: Tensor) -> Tensor:
    return t * t * t * (t * (t * 6 - 15) + 10)
