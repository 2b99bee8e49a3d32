"""Denoisers: the models of the loop's forward, all called alike. One class for each architecture.

Named in the table of `families.py`, made when a pipeline is loaded, called by `denoise.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from invokeai_daemon.engine.conditioning import Conditioning


class Denoiser(Protocol):
    """What the loop knows of the model that it calls."""

    #: The model's folder in its pipeline's.
    folder: ClassVar[str]
    #: diffusers' class of the model.
    kind: ClassVar[Any]
    #: How tensors lie that an accelerator computes fastest with.
    memory_format: ClassVar[torch.memory_format]
    model: Any

    def __init__(self, model: Any) -> None: ...

    @property
    def in_channels(self) -> int:
        """Channels of the latents that it takes."""

    def __call__(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """What it predicts of each row, [rows, channels, height, width]."""


class UNet:
    """The UNet of Stable Diffusion 1, 2 and XL."""

    folder: ClassVar[str] = "unet"
    kind: ClassVar[Any] = UNet2DConditionModel
    memory_format: ClassVar[torch.memory_format] = torch.channels_last

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def in_channels(self) -> int:
        return int(self.model.config.in_channels)

    def __call__(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        added = dict(conditioning.added) or None
        told = self.model(latents, timesteps, conditioning.texts, added_cond_kwargs=added, return_dict=False)
        return told[0]  # type: ignore[no-any-return]
