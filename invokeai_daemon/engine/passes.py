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
from torch import Tensor

from invokeai_daemon.engine.beginning import FROM_NOISE, Beginning
from invokeai_daemon.engine.decode import Picture
from invokeai_daemon.engine.pipeline import Pipeline
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

    def open(self, asked: str) -> PIL.Image.Image:
        """A picture that the job names, the right way up. Raises OSError when it is gone or damaged."""
        from PIL import ImageOps

        with PIL.Image.open(self.folder / self.plan.input(asked).file) as picture:
            return ImageOps.exif_transpose(picture)
