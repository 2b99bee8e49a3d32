"""VAE: pixels to latents and back. One VAE is used by two threads: lanes start with pictures while others are decoded.

Called by the modes, which encode, and by `decode.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from invokeai_daemon.engine.loading.cores import Share
from invokeai_daemon.engine.loading.steady import keep_plain_layout, make_steady
from invokeai_daemon.engine.loading.streaming import device_of
from invokeai_daemon.engine.seamless import Axes, seamless

T = TypeVar("T")

NOWHERE: Axes = (False, False)


@dataclass(frozen=True)
class VaeSettings:
    """How VAEs compute, as `[render]` says."""

    #: vae_precision: "auto", "float32", "bfloat16" or "float16".
    precision: str = "auto"
    #: vae_tiling: "auto", where memory is short; "always"; "never".
    tiling: str = "auto"

    def dtype(self, overflows: bool, device: torch.device, dtype: torch.dtype) -> torch.dtype:
        """The type of a VAE beside a denoiser of some type; `overflows` is said of those that do in float16."""
        if self.precision != "auto":
            return getattr(torch, self.precision)  # type: ignore[no-any-return]
        # Eight bits of mantissa band smooth skies, so on a CPU the decoder stays exact; it is one step's work.
        if device.type == "cpu":
            return torch.float32
        return torch.float32 if overflows and dtype is torch.float16 else dtype


USUAL = VaeSettings()


def settle_vae(model: Any, device: torch.device) -> None:
    """Bring the layers of a VAE into the form that is steady on a CPU and fast on an accelerator."""
    if device.type != "cpu":
        model.to(memory_format=torch.channels_last)
        return
    make_steady(model)
    for half in (model.encoder, model.decoder):
        # A tiny VAE has no attention.
        for attention in half.mid_block.attentions if hasattr(half, "mid_block") else ():
            keep_plain_layout(attention)


@dataclass(eq=False)
class Vae:
    """A VAE as the engine uses it: latents are scaled as denoisers were trained with them."""

    #: diffusers' AutoencoderKL or AutoencoderTiny.
    model: Any
    share: Share
    settings: VaeSettings = USUAL
    #: Held by whoever uses the model, since it is changed while it is used.
    _in_use: threading.Lock = field(default_factory=threading.Lock)

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def latent_channels(self) -> int:
        return int(self.config.latent_channels)

    @property
    def pixels_per_latent(self) -> int:
        """The side of the square of pixels that one latent stands for."""
        return int(2 ** (len(self.config.block_out_channels) - 1))

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype  # type: ignore[no-any-return]

    @torch.inference_mode()
    def encode(
        self, pixels: Tensor, generator: torch.Generator | None = None, axes: Axes = NOWHERE, tiled: bool = False
    ) -> Tensor:
        """Latents of pictures, [n, channels, height / 8, width / 8] in float32 on the model's device.

        Pixels are [n, 3, height, width], −1 … 1. `generator` draws the latents from what the model says about them;
        without one they are the likeliest. `tiled` takes less memory, see `decode`.
        """
        with self._in_use, self.share.computing(), seamless(self.model, axes), self._tiling(tiled, axes):
            told, _ = self._exactly(lambda: self._encoded(pixels), lambda told: _drawn(told, None))
        return self._scaled(_drawn(told, generator).float())

    @torch.inference_mode()
    def decode(self, latents: Tensor, axes: Axes = NOWHERE, tiled: bool = False) -> tuple[Tensor, bool]:
        """Pictures, [n, 3, height, width], −1 … 1 and a little beyond; and whether the model overflowed at first.

        `tiled` computes large pictures piece by piece, which takes less memory and changes them a little; pictures
        whose edges meet are always computed whole. Raises what the model raises.
        """
        latents = self.unscaled(latents)
        with self._in_use, self.share.computing(), seamless(self.model, axes), self._tiling(tiled, axes):
            return self._exactly(lambda: self._decoded(latents), lambda values: values)

    def _exactly(self, compute: Callable[[], T], numbers: Callable[[T], Tensor]) -> tuple[T, bool]:
        """What the model computes, in float32 where it overflows otherwise; and whether it did."""
        told = compute()
        if self.dtype is torch.float32 or torch.isfinite(numbers(told)).all():
            return told, False
        # It stays so: a VAE that overflowed once will do so again.
        self.model.to(torch.float32)
        return compute(), True

    def _encoded(self, pixels: Tensor) -> Any:
        return self.model.encode(pixels.to(device_of(self.model), self.dtype))

    def _decoded(self, latents: Tensor) -> Tensor:
        return self.model.decode(latents.to(self.dtype), return_dict=False)[0]  # type: ignore[no-any-return]

    @contextmanager
    def _tiling(self, tiled: bool, axes: Axes) -> Iterator[None]:
        tiling = self.settings.tiling
        # A piece would meet its own edges.
        if tiling == "never" or not (tiled or tiling == "always") or any(axes):
            yield
            return
        self.model.enable_tiling()
        try:
            yield
        finally:
            self.model.disable_tiling()

    def _scaled(self, latents: Tensor) -> Tensor:
        """Latents as denoisers were trained with them: their values spread by about 1."""
        mean, std = self._spread(latents)
        return (latents - mean) * float(self.config.scaling_factor) / std

    def unscaled(self, latents: Tensor) -> Tensor:
        """Latents as the VAE made them."""
        mean, std = self._spread(latents)
        return latents * std / float(self.config.scaling_factor) + mean

    def _spread(self, latents: Tensor) -> tuple[Tensor | float, Tensor | float]:
        # An AutoencoderTiny has only a shift, by another name and inside itself.
        means, stds = (getattr(self.config, name, None) for name in ("latents_mean", "latents_std"))
        if means is None or stds is None:
            return float(getattr(self.config, "shift_factor", None) or 0.0), 1.0
        mean, std = (latents.new_tensor(each).view(1, -1, 1, 1) for each in (means, stds))
        return mean, std


def _drawn(told: Any, generator: torch.Generator | None) -> Tensor:
    """Latents of what an encoder tells: nearly always a distribution."""
    if not hasattr(told, "latent_dist"):
        return told.latents  # type: ignore[no-any-return]
    spread = told.latent_dist
    return spread.mode() if generator is None else spread.sample(generator)  # type: ignore[no-any-return]
