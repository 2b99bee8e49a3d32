"""Hooks: what is done to an image's latents between two of its steps. A lane has a list of them.

Made when a lane starts, called by the lane after each step. A hook sees one image only; neighbours cannot matter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from invokeai_daemon.job.plan import Image

#: Latents after a step, the number of that step from 0, and the number of steps -> the latents to go on with.
Hook = Callable[[Tensor, int, int], Tensor]

#: The part of a run in which the threshold falls to its value, from so many times as much.
WARM_UP, WARM_UP_FACTOR = 0.2, 6
#: Latents beyond the threshold shrink to this share of the largest one, or to less.
SHRINK = 0.7
HEIGHT, WIDTH = -2, -1


def hooks_of(image: Image, generator: torch.Generator) -> tuple[Hook, ...]:
    """What is done after each step of an image, in this order. `generator` draws what must be random."""
    hooks: list[Hook] = []
    if image.threshold:
        hooks.append(partial(tame, threshold=image.threshold, generator=generator))
    if image.h_symmetry_time_pct:
        hooks.append(partial(mirror, dimension=WIDTH, moment=image.h_symmetry_time_pct))
    if image.v_symmetry_time_pct:
        hooks.append(partial(mirror, dimension=HEIGHT, moment=image.v_symmetry_time_pct))
    return tuple(hooks)


def tame(latents: Tensor, index: int, count: int, *, threshold: float, generator: torch.Generator) -> Tensor:
    """Latents beyond the threshold drawn anew, on their own side of 0."""
    limit = threshold * (1 + (WARM_UP_FACTOR - 1) * max(0.0, 1 - index / count / WARM_UP))
    largest, smallest = float(latents.max()), float(latents.min())
    if largest > limit:
        top = min(max(SHRINK * largest, 1.0), limit)
        latents = _redrawn(latents, latents > top, top, generator)
    if smallest < -limit:
        bottom = min(max(SHRINK * smallest, -limit), -1.0)
        latents = _redrawn(latents, latents < bottom, bottom, generator)
    return latents


def _redrawn(latents: Tensor, chosen: Tensor, bound: float, generator: torch.Generator) -> Tensor:
    """The chosen latents anywhere between 0 and a bound."""
    drawn = bound * torch.rand(int(chosen.sum()), generator=generator)
    return latents.masked_scatter(chosen, drawn.to(latents))


def mirror(latents: Tensor, index: int, count: int, *, dimension: int, moment: float) -> Tensor:
    """The first half of a dimension mirrored to the second, once: at the first step that is not before the moment."""
    if not (index - 1) / count < moment <= index / count:
        return latents
    half = latents.shape[dimension] // 2
    first = latents.narrow(dimension, 0, latents.shape[dimension] - half)
    return torch.cat([first, latents.narrow(dimension, 0, half).flip(dimension)], dimension)
