"""Beginning: what a lane starts from, besides noise. Modes say it, lanes start from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from invokeai_daemon.engine.hooks import Hook
from invokeai_daemon.engine.loading.pipeline import Pipeline

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
    return _mask_channels(pipeline) in (1, pipeline.pixels_per_latent**2)


def sees_pixels_of_masks(pipeline: Pipeline) -> bool:
    """Whether such a model sees every pixel of the mask, as FLUX.1 Fill does; others see it as small as latents."""
    return _mask_channels(pipeline) == pipeline.pixels_per_latent**2


def _mask_channels(pipeline: Pipeline) -> int:
    return pipeline.denoiser.in_channels - 2 * pipeline.latent_channels


def beside_of(pipeline: Pipeline, mask: Tensor, masked: Tensor) -> Tensor:
    """What such a model sees: the mask, [1, 1, height, width] with 1 for what is painted, and the latents of the
    picture without that part.
    """
    factor = pipeline.pixels_per_latent
    mask = mask.to(masked)
    if sees_pixels_of_masks(pipeline):
        return torch.cat([masked, pixel_unshuffle(mask, factor)], dim=1)
    # A latent goes by the upper left of its pixels, as in diffusers.
    return torch.cat([mask[..., ::factor, ::factor], masked], dim=1)


def all_masked(pipeline: Pipeline, width: int, height: int) -> Tensor:
    """What it sees where there is no picture to paint into: everything is to be painted, over nothing."""
    nothing = torch.zeros(pipeline.latent_shape(width, height), device=pipeline.device)
    return beside_of(pipeline, torch.ones(1, 1, height, width), nothing)
