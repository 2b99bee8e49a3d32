"""Schedulers: diffusers' objects by InvokeAI's names, one for each lane, since they hold the state of its run.

The names and options stand in `job/schedulers.py`. Called by the lanes; never touches a model.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from torch import Tensor

from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.schedulers import BY_NAME

#: The word of a scheduler's config for a model that was trained until nothing but noise was left.
ZERO_SNR = "rescale_betas_zero_snr"
NOT_FROM_PURE_NOISE = (
    "the model begins with pure noise, which this scheduler cannot, so very dark and very bright pictures may turn out "
    "greyer; euler, ddim and dpmpp_2m can"
)


class Schedulers:
    """The schedulers of one model, built from its own scheduler config."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        #: Schedulers after `set_timesteps`, by name and number of steps; lanes get copies, which costs far less.
        self._ready = functools.lru_cache(maxsize=64)(self._build)

    def new(self, name: str, steps: int) -> Any:
        """A scheduler ready for a run of so many steps, shared with nobody. Raises RenderError."""
        return copy.deepcopy(self._ready(name, steps))

    def warnings(self, scheduler: Any) -> list[str]:
        """What is worth knowing about a scheduler of these."""
        cannot = self.config.get(ZERO_SNR) and ZERO_SNR not in inspect.signature(type(scheduler)).parameters
        return [NOT_FROM_PURE_NOISE] if cannot else []

    def _build(self, name: str, steps: int) -> Any:
        known = BY_NAME.get(name)
        if known is None or known.class_name is None:
            raise RenderError(f'scheduler "{name}" is not one that can be rendered. Try "euler" or "dpmpp_2m_k".')
        try:
            scheduler = getattr(diffusers, known.class_name).from_config(self.config, **known.options)
            # Timesteps stay on the CPU: the step number is looked up there, and a device would have to be waited for.
            scheduler.set_timesteps(steps, device="cpu")
        except (ValueError, IndexError, ImportError, NotImplementedError) as error:
            raise RenderError(f'scheduler "{name}" cannot make {steps} steps with this model: {error}') from error
        return scheduler


def step_arguments(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    """What diffusers' own pipeline passes to `step` besides tensors: the lane's noise, and none for DDIM."""
    values: dict[str, Any] = {"generator": generator, "eta": 0.0}
    taken = inspect.signature(scheduler.step).parameters
    return {name: value for name, value in values.items() if name in taken}


def part_of_run(scheduler: Any, start: float, end: float) -> Tensor:
    """The timesteps between two places of a run, 0 … 1. The scheduler will begin at the first. Raises RenderError."""
    whole: Tensor = scheduler.timesteps
    if (start, end) == (0, 1):
        return whole
    trained = scheduler.config.num_train_timesteps
    # Second-order schedulers evaluate twice for one step; only whole steps are left out.
    steps = whole[:: scheduler.order]
    first = int((steps >= round(trained * (1 - start))).sum()) if start else 0
    count = int((steps[first:] >= round(trained * (1 - end))).sum())
    if not count:
        raise RenderError(
            f"none of the {len(steps)} steps lies between denoising_start {start:g} and denoising_end {end:g}. "
            "Ask for more steps, or for a larger part of the run."
        )
    if first and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first * scheduler.order)
    part = slice(first * scheduler.order, (first + count) * scheduler.order)
    return whole[part]


def noised(scheduler: Any, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Noise as the scheduler wants it at the first of these timesteps."""
    is_at_start = bool(timesteps[0] == scheduler.timesteps[0])
    latents: Tensor = (
        noise * scheduler.init_noise_sigma
        if is_at_start
        else scheduler.add_noise(torch.zeros_like(noise), noise, timesteps[:1])
    )
    return latents


def expected_end(scheduler: Any, prediction: Tensor, timestep: Tensor, latents: Tensor) -> Tensor:
    """What latents are expected to become, from what is predicted of them: the picture without its noise."""
    predicts = scheduler.config.prediction_type
    # Scaled, the latents of every scheduler are those that the model was trained with: √ᾱ of picture, the rest noise.
    scaled: Tensor = scheduler.scale_model_input(latents, timestep)
    kept = float(scheduler.alphas_cumprod[min(int(timestep.round()), len(scheduler.alphas_cumprod) - 1)])
    picture, noise = math.sqrt(kept), math.sqrt(1 - kept)
    if predicts == "v_prediction":
        return picture * scaled - noise * prediction
    if predicts == "sample":
        return prediction
    return (scaled - noise * prediction) / picture
