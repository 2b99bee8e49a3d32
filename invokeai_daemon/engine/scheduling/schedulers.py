"""Schedulers: diffusers' objects by InvokeAI's names, one for each lane, since they hold the state of its run.

The names and options stand in `job/schedulers.py`. Called by the lanes; never touches a model.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler
from torch import Tensor

from invokeai_daemon.engine.scheduling.er_sde import ERSDEScheduler
from invokeai_daemon.engine.scheduling.flow import FlowEuler, FlowHeun, FlowLCM, FlowMatching, Levels, spacing
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.schedulers import BY_NAME, FLOW, Scheduler

#: The word of a scheduler's config for a model that was trained until nothing but noise was left.
ZERO_SNR = "rescale_betas_zero_snr"
NOT_FROM_PURE_NOISE = (
    "the model begins with pure noise, which this scheduler cannot, so very dark and very bright pictures may turn out "
    "greyer; euler, ddim and dpmpp_2m can"
)

#: Schedulers that diffusers does not have.
OWN: Mapping[str, Any] = {each.__name__: each for each in (ERSDEScheduler, FlowEuler, FlowHeun, FlowLCM)}


class Schedulers:
    """The schedulers of one model, built from its own scheduler config."""

    def __init__(self, config: Mapping[str, Any], levels: Levels | None = None) -> None:
        """`levels` are those of a family that has its own."""
        self.config, self.levels = dict(config), levels
        self.is_flow = str(config.get("_class_name")).startswith("FlowMatch")
        #: Schedulers after `set_timesteps`; lanes get copies, which costs far less.
        self._ready = functools.lru_cache(maxsize=64)(self._build)

    def new(self, name: str, steps: int, size: Sequence[int] = (0, 0)) -> Any:
        """A scheduler ready for a run of so many steps, shared with nobody. Raises RenderError.

        `size` is that of the latents, … height, width, which some models shift their run by.
        """
        height, width = size[-2:]
        return copy.deepcopy(self._ready(name, steps, -(-height // 2) * -(-width // 2) if self.is_flow else 0))

    def warnings(self, scheduler: Any) -> list[str]:
        """What is worth knowing about a scheduler of these."""
        cannot = self.config.get(ZERO_SNR) and ZERO_SNR not in inspect.signature(type(scheduler)).parameters
        return [NOT_FROM_PURE_NOISE] if cannot else []

    def _build(self, name: str, steps: int, tokens: int) -> Any:
        known = (FLOW if self.is_flow else BY_NAME).get(name)
        if known is None and name in BY_NAME:
            raise RenderError(f'scheduler "{name}" cannot follow the flow of this model; {", ".join(FLOW)} can.')
        if known is None:
            raise RenderError(f'there is no scheduler "{name}". Try "euler" or "dpmpp_2m_k".')
        levels = spacing(self.config, steps, tokens, self.levels) if self.is_flow else {}
        try:
            scheduler = class_of(known).from_config(self.config, **known.options)
            # Timesteps stay on the CPU: the step number is looked up there, and a device would have to be waited for.
            scheduler.set_timesteps(steps, device="cpu", **levels)
        except (ValueError, IndexError, ImportError, NotImplementedError) as error:
            raise RenderError(f'scheduler "{name}" cannot make {steps} steps with this model: {error}') from error
        return scheduler


def class_of(scheduler: Scheduler) -> Any:
    """diffusers' class of a scheduler, or ours where diffusers has none."""
    return OWN.get(scheduler.class_name) or getattr(diffusers, scheduler.class_name)


def draw_along_a_path(scheduler: Any, seed: int, shape: Sequence[int], device: torch.device) -> None:
    """Have a scheduler whose noises belong together draw them on the CPU too, from the seed of the image."""
    if not hasattr(scheduler, "noise_sampler"):
        return
    levels = scheduler.sigmas[scheduler.sigmas > 0]
    path = BrownianTreeNoiseSampler(torch.zeros(*shape), float(levels.min()), float(levels.max()), seed)

    def draw(one: Tensor, other: Tensor) -> Tensor:
        with warnings.catch_warnings():
            # torchsde rounds the ends of the path, and then finds the outermost levels just beyond them.
            warnings.filterwarnings("ignore", "Should have t", UserWarning)
            return path(one, other).to(device)  # type: ignore[no-any-return]

    scheduler.noise_sampler = draw


def step_arguments(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    """What diffusers' own pipeline passes to `step` besides tensors: the lane's noise, and none for DDIM."""
    values: dict[str, Any] = {"generator": generator, "eta": 0.0}
    taken = inspect.signature(scheduler.step).parameters
    return {name: value for name, value in values.items() if name in taken}


def part_of_run(scheduler: Any, start: float, end: float, strength: float = 1.0) -> Tensor:
    """The timesteps between two places of a run, 0 … 1. The scheduler will begin at the first. There may be none.

    `strength` is the share of the run that is made, from its end, as diffusers' img2img pipelines count it; a start
    that is not 0 says the same, and counts.
    """
    whole: Tensor = scheduler.timesteps
    if not start and not strength:
        return whole[:0]
    # Second-order schedulers evaluate twice for one step; only whole steps are left out.
    steps = whole[:: scheduler.order]
    first = _steps_before(scheduler, steps, start) if start else _steps_left_out(scheduler, steps, strength)
    last = _steps_before(scheduler, steps, end) if end < 1 else len(steps)
    if first and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first * scheduler.order)
    return whole[first * scheduler.order : last * scheduler.order]


def _steps_before(scheduler: Any, steps: Tensor, place: float) -> int:
    return int((steps >= round(scheduler.config.num_train_timesteps * (1 - place))).sum())


def _steps_left_out(scheduler: Any, steps: Tensor, strength: float) -> int:
    if isinstance(scheduler, FlowMatching):
        # Their img2img pipelines round what is left out down, not what is made.
        return min(int(len(steps) - len(steps) * strength), len(steps) - 1)
    # Not the number of timesteps: a scheduler may evaluate one of them twice, as pndm does.
    asked: int = scheduler.num_inference_steps
    return min(asked - min(int(asked * strength), asked), len(steps) - 1)


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
    if isinstance(scheduler, FlowMatching):
        return scheduler.expected_end(prediction, timestep, latents)
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
