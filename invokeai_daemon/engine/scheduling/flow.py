"""Flow: the schedulers of models that follow a straight path from noise to picture: Stable Diffusion 3 and FLUX.1.

diffusers' own, with what the lanes ask of every scheduler. Made by `schedulers.py` like the others. A noise level is
the share of noise in the latents, 1 … 0; it is the timestep divided by 1000.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler, FlowMatchLCMScheduler
from torch import Tensor

#: From the number of steps to the noise levels of a run before they are shifted, from the first to the last but 0.
Levels = Callable[[int], Sequence[float]]


def evenly(steps: int) -> Sequence[float]:
    """FLUX.1: as many levels in equal distances, from 1."""
    return [1 - step / steps for step in range(steps)]


class FlowMatching:
    """What the schedulers of this module have in common."""

    sigmas: Tensor
    timesteps: Tensor
    #: Noise is what the latents begin with.
    init_noise_sigma = 1.0

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """The latents as the denoiser takes them: as they are."""
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Pictures with the noise of these timesteps of the run, one for each picture or one for all."""
        share = torch.stack([self.level(timestep) for timestep in timesteps]).to(original_samples).view(-1, 1, 1, 1)
        return share * noise + (1 - share) * original_samples

    def level(self, timestep: Tensor) -> Tensor:
        """The noise level at a timestep of the run."""
        return self.sigmas[int((self.timesteps == timestep.to(self.timesteps)).nonzero()[0])]

    def expected_end(self, prediction: Tensor, timestep: Tensor, latents: Tensor) -> Tensor:
        """What latents are expected to become: the end of the straight line from where they are."""
        return latents - float(self.level(timestep)) * prediction


class FlowEuler(FlowMatching, FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """Euler's method."""


class FlowLCM(FlowMatching, FlowMatchLCMScheduler):  # type: ignore[misc]
    """For models that were distilled to be consistent: new noise after each step."""


class FlowHeun(FlowMatching, FlowMatchHeunDiscreteScheduler):  # type: ignore[misc]
    """Heun's method, over the levels that Euler's has, which diffusers' own cannot shift by the size of the picture."""

    def set_timesteps(self, num_inference_steps: int, device: str | None = None, **levels: Any) -> None:
        """`levels` are Euler's: `sigmas` and `mu`."""
        super().set_timesteps(num_inference_steps, device)
        euler = FlowMatchEulerDiscreteScheduler.from_config(self.config)
        euler.set_timesteps(num_inference_steps, device, **levels)
        self.timesteps, self.sigmas = _twice_but_first(euler.timesteps), _twice_but_first(euler.sigmas[:-1])
        self.sigmas = torch.cat([self.sigmas, euler.sigmas[-1:]])


def _twice_but_first(values: Tensor) -> Tensor:
    """Heun's method looks at the end of each step as well, where the next one begins."""
    return torch.cat([values[:1], values[1:].repeat_interleave(2)])


def spacing(config: Mapping[str, Any], steps: int, tokens: int, levels: Levels | None) -> dict[str, Any]:
    """What `set_timesteps` takes besides the number of steps, for pictures of so many tokens."""
    told: dict[str, Any] = {} if levels is None else {"sigmas": list(levels(steps))}
    if config.get("use_dynamic_shifting"):
        told["mu"] = shift(config, tokens)
    return told


def shift(config: Mapping[str, Any], tokens: int) -> float:
    """How far levels are shifted towards noise, which a large picture needs more of: a straight line by its tokens."""
    fewest, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, largest = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (largest - least) / (most - fewest)
    return math.fsum([least, slope * (tokens - fewest)])
