"""ER-SDE: the extended reverse-time SDE solver of Cui et al. 2023, third order, as a scheduler of diffusers' kind.

diffusers has none. Made by `schedulers.py` like the others. Noise levels, scaling and the places of a run are those of
the Euler scheduler, of which only the step is another.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteSchedulerOutput
from torch import Tensor

#: Points of an integral between two noise levels.
POINTS = 200


def noise_scale(sigma: Tensor) -> Tensor:
    """The paper's φ, which says how much of the noise is drawn anew: between an ODE, σ, and the whole SDE, σ²."""
    return sigma * (torch.exp(sigma**0.3) + 10)


class ERSDEScheduler(EulerDiscreteScheduler):  # type: ignore[misc]
    """Like diffusers' schedulers: `set_timesteps`, then `step` for each timestep."""

    def set_timesteps(self, *arguments: Any, **options: Any) -> None:
        super().set_timesteps(*arguments, **options)
        #: The noise levels of the last two steps, and what the latents were expected to become at them.
        self._ends: list[tuple[float, Tensor]] = []
        #: How fast that changed between the two; empty before.
        self._slopes: list[Tensor] = []

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor,
        sample: Tensor,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> EulerDiscreteSchedulerOutput | tuple[Tensor, ...]:
        """The latents at the next noise level, from what is predicted of them at this one."""
        end = super().step(model_output, timestep, sample, return_dict=False)[1]
        now, then = self.sigmas[self.step_index - 1].double(), self.sigmas[self.step_index].double()
        moved = self._moved(sample.float(), end, now, then, generator) if then else end
        moved = moved.to(model_output.dtype)
        return EulerDiscreteSchedulerOutput(moved, end) if return_dict else (moved, end)

    def _moved(
        self, sample: Tensor, end: Tensor, now: Tensor, then: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        kept = float(noise_scale(then) / noise_scale(now))
        moved = kept * sample + (1 - kept) * end
        for share, derivative in zip(_shares(now, then), self._derivatives(end, float(now)), strict=False):
            moved = moved + share * derivative
        fresh = math.sqrt(max(0.0, float(then**2 - (kept * now) ** 2)))
        noise = torch.randn(sample.shape, generator=generator, device=generator.device if generator else None)
        return moved + fresh * noise.to(moved)

    def _derivatives(self, end: Tensor, now: float) -> list[Tensor]:
        """How the expected end changes with the noise level: a derivative for each step before this one, at most 2."""
        found = []
        if self._ends:
            before, earlier = self._ends[-1]
            found.append((end - earlier) / (now - before))
        if len(self._ends) > 1 and self._slopes:
            found.append((found[0] - self._slopes[-1]) / ((now - self._ends[-2][0]) / 2))
        self._ends = [*self._ends[-1:], (now, end)]
        self._slopes = found[:1]
        return found


def _shares(now: Tensor, then: Tensor) -> tuple[float, float]:
    """What the first and the second derivative of the expected end add on the way between two noise levels.

    The solution's integral of φ'/φ² times a polynomial, in parts.
    """
    levels = torch.linspace(float(then), float(now), POINTS, dtype=torch.float64)
    first = torch.trapezoid(1 / noise_scale(levels), levels)
    second = torch.trapezoid((levels - now) / noise_scale(levels), levels)
    way = then - now
    return float(way + noise_scale(then) * first), float(way**2 / 2 + noise_scale(then) * second)
