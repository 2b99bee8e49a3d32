"""Denoisers: the models of the loop's forward, all called alike. One class for each architecture.

Named in the table of `families.py`, made when a pipeline is loaded, called by `denoise.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from torch.nn.functional import pad

from invokeai_daemon.engine.conditioning import Conditioning
from invokeai_daemon.engine.injected import Injected
from invokeai_daemon.engine.texts.swap import swapping


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

    @property
    def largest(self) -> int | None:
        """Latents along a side that it has places for; None for any number."""

    def __call__(
        self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, injected: Injected | None = None
    ) -> Tensor:
        """What it predicts of each row, [rows, channels, height, width]. `injected` is for UNets only."""


class UNet:
    """The UNet of Stable Diffusion 1, 2 and XL."""

    folder: ClassVar[str] = "unet"
    kind: ClassVar[Any] = UNet2DConditionModel
    memory_format: ClassVar[torch.memory_format] = torch.channels_last
    largest = None

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def in_channels(self) -> int:
        return int(self.model.config.in_channels)

    def __call__(
        self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, injected: Injected | None = None
    ) -> Tensor:
        added = dict(conditioning.added) or None
        more = {"added_cond_kwargs": added, **(_residuals(injected) if injected else {})}
        with swapping(self.model, conditioning.swaps):
            told = self.model(latents, timesteps, conditioning.texts, return_dict=False, **more)
        return told[0]  # type: ignore[no-any-return]


def _residuals(injected: Injected) -> dict[str, Any]:
    """What is injected, by the names of diffusers' UNet."""
    return {
        "down_block_additional_residuals": injected.down or None,
        "mid_block_additional_residual": injected.middle,
        # The UNet takes them from the list one by one.
        "down_intrablock_additional_residuals": list(injected.features) or None,
    }


#: Latents along each side of the patch that a transformer takes for one token.
PATCH = 2
#: Timesteps of a whole run, as schedulers count them.
TIMESTEPS = 1000


class MMDiT:
    """The transformer of Stable Diffusion 3 and 3.5."""

    folder: ClassVar[str] = "transformer"
    kind: ClassVar[Any] = SD3Transformer2DModel
    memory_format: ClassVar[torch.memory_format] = torch.preserve_format

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def in_channels(self) -> int:
        return int(self.model.config.in_channels)

    @property
    def largest(self) -> int | None:
        return PATCH * int(self.model.config.pos_embed_max_size)

    def __call__(
        self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, injected: Injected | None = None
    ) -> Tensor:
        whole = whole_patches(latents)
        told = self.model(whole, conditioning.texts, conditioning.added["pooled"], timesteps, return_dict=False)
        return cut_to(told[0], latents)


class Flux:
    """The transformer of FLUX.1, which takes latents as a row of tokens."""

    folder: ClassVar[str] = "transformer"
    kind: ClassVar[Any] = FluxTransformer2DModel
    memory_format: ClassVar[torch.memory_format] = torch.preserve_format
    largest = None

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def in_channels(self) -> int:
        return int(self.model.config.in_channels) // PATCH**2

    def __call__(
        self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, injected: Injected | None = None
    ) -> Tensor:
        whole = whole_patches(latents)
        told = self.model(
            hidden_states=packed(whole),
            encoder_hidden_states=conditioning.texts,
            pooled_projections=conditioning.added["pooled"],
            timestep=timesteps / TIMESTEPS,
            img_ids=_places(whole),
            txt_ids=torch.zeros(conditioning.texts.shape[1], 3, device=latents.device),
            guidance=conditioning.added["guidance"] if self.model.config.guidance_embeds else None,
            return_dict=False,
        )
        return cut_to(unpacked(told[0], *whole.shape[-2:]), latents)


def whole_patches(latents: Tensor) -> Tensor:
    """The latents with even sides: at an odd one, the last but one row or column stands again beyond the last."""
    height, width = latents.shape[-2:]
    if height % PATCH == width % PATCH == 0:
        return latents
    return pad(latents, (0, width % PATCH, 0, height % PATCH), mode="reflect")


def cut_to(prediction: Tensor, latents: Tensor) -> Tensor:
    """A prediction without what whole patches added to the latents."""
    height, width = latents.shape[-2:]
    return prediction[..., :height, :width]


def packed(latents: Tensor) -> Tensor:
    """[rows, channels, height, width] as tokens, [rows, height / 2 · width / 2, channels · 4]."""
    rows, channels, height, width = latents.shape
    patches = latents.view(rows, channels, height // PATCH, PATCH, width // PATCH, PATCH).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(rows, height * width // PATCH**2, channels * PATCH**2)


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """The way back from `packed`."""
    rows, _, values = tokens.shape
    patches = tokens.view(rows, height // PATCH, width // PATCH, values // PATCH**2, PATCH, PATCH)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(rows, values // PATCH**2, height, width)


def _places(latents: Tensor) -> Tensor:
    """Where each token stands, [tokens, 3]: 0, its row, its column."""
    height, width = (side // PATCH for side in latents.shape[-2:])
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1)
    return places.reshape(-1, 3).to(latents.device, torch.float32)
