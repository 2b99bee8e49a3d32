"""Beginning: what a lane starts from, besides noise. Modes say it, lanes start from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invokeai_daemon.engine.hooks import Hook
from invokeai_daemon.engine.pipeline import Pipeline

#: From the lane's scheduler, its noise and its timesteps to what is done after each step, after all other hooks.
MakeHook = Callable[[Any, Tensor, Tensor], Hook]


@dataclass(frozen=True, eq=False)
class Beginning:
    """What a lane starts from, besides noise."""

    #: [1, channels, height / 8, width / 8], float32; None for nothing.
    latents: Tensor | None = None
    #: They hold the noise of their place in the run already.
    is_noisy: bool = False
    #: The share of the run that is made, from its end: 0 is no step, more is at least one.
    strength: float = 1.0
    #: The image's noise, and what drew it and draws on; None where the lane draws it from the seed.
    drawn: tuple[Tensor, torch.Generator] | None = None
    #: What the denoiser sees beside the latents, [1, more channels, height / 8, width / 8]; or one for each row.
    beside: Tensor | None = None
    #: How closely to follow a picture that the denoiser sees beside; it is then asked without the picture, too.
    picture_scale: float | None = None
    hooks: tuple[MakeHook, ...] = ()


FROM_NOISE = Beginning()


def sees_masks(pipeline: Pipeline) -> bool:
    """Whether a model was trained to paint into pictures: it sees mask and masked picture beside the latents."""
    return pipeline.denoiser.in_channels == 2 * pipeline.latent_channels + 1


def all_masked(latents: Tensor) -> Tensor:
    """What such a model sees where there is no picture to paint into: everything is to be painted, over nothing."""
    return torch.cat([torch.ones_like(latents[:, :1]), torch.zeros_like(latents)], dim=1)
