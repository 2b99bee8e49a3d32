"""Passes: the runs of a denoiser that make one image, one after another. A mode asks for them, the renderer makes them.

A mode is a generator: it yields the passes it needs, is sent what became of each, and returns the picture. It is told
in one piece what happens to an image, while the renderer lets its passes share forwards with those of other images.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import PIL.Image
import torch
from torch import Tensor

from invokeai_daemon.engine.beginning import FROM_NOISE, Beginning
from invokeai_daemon.engine.decode import Picture
from invokeai_daemon.engine.loading.other_vaes import OtherVae
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.loading.vae import Vae
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.plan import Image, ModelRef, Plan


@dataclass(frozen=True, eq=False)
class Pass:
    """One run of a denoiser."""

    #: The image with the values of this pass.
    image: Image
    beginning: Beginning = FROM_NOISE
    #: The model that makes it; None for the job's own.
    model: ModelRef | None = None
    #: What follows: the mode goes on with latents or with the picture, or only finishes the picture.
    then: Literal["latents", "picture", "finish"] = "finish"


@dataclass(frozen=True, eq=False)
class Passed:
    """What became of a pass."""

    latents: Tensor
    #: None where the pass asked for latents.
    picture: Picture | None = None

    @property
    def shown(self) -> Picture:
        """The picture of a pass that asked for one."""
        assert self.picture is not None
        return self.picture


#: Yields passes, is sent what became of each, returns the picture. Raises RenderError.
Mode = Generator[Pass, Passed, Picture]


@dataclass(frozen=True, eq=False)
class Desk:
    """What a mode works with."""

    plan: Plan
    #: The job's results folder.
    folder: Path
    #: The job's own model, loaded.
    pipeline: Pipeline
    #: The VAE that the image names instead of the model's own.
    other_vae: OtherVae | None = None
    #: The VAE works in tiles, since memory is short.
    is_tiled: bool = False

    @property
    def vae(self) -> Vae:
        """The VAE of the image."""
        return self.pipeline.vae if self.other_vae is None else self.other_vae.vae

    def encode(self, pixels: Tensor, image: Image, generator: torch.Generator | None = None) -> Tensor:
        """Latents of pictures for an image, see `Vae.encode`."""
        return self.vae.encode(pixels, generator, image.seamless, self.is_tiled)

    def open(self, asked: str) -> PIL.Image.Image:
        """A picture that the job names, the right way up. Raises RenderError when it is gone or damaged."""
        from PIL import ImageOps

        copy = self.plan.input(asked)
        try:
            with PIL.Image.open(self.folder / copy.file) as picture:
                return ImageOps.exif_transpose(picture)
        except OSError as error:
            raise RenderError(
                f"The copy of {copy.asked}, {self.folder / copy.file}, cannot be read: {error}. "
                "Drop the job again, with the picture."
            ) from error
