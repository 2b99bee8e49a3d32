"""Vision: the CLIP encoder through which IP-Adapters look at pictures. Loaded once and kept beside the pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from invokeai_daemon.engine.loading.parts import bring, bytes_of, read_part, weight_files
from invokeai_daemon.engine.loading.steady import make_steady
from invokeai_daemon.errors import RenderError

#: What is said of a picture, and what of none; one row each.
Said = tuple[Tensor, Tensor]
PROJECTION = "visual_projection.weight"
#: Of the encoder's hidden states, those that say most of the parts of a picture.
PATCHES = -2


@dataclass(frozen=True, eq=False)
class Vision:
    """A loaded CLIP vision encoder."""

    #: transformers' model.
    model: Any
    preparing: CLIPImageProcessor
    #: Whether it has what sums up a picture in one vector; some are without.
    has_projection: bool
    size: int

    def whole(self, picture: Image.Image) -> Said:
        """Of a picture as a whole: one vector; of none, zeros. Raises RenderError."""
        if not self.has_projection:
            raise RenderError(
                "The image encoder has no visual_projection, which this IP-Adapter looks through. "
                "Drop the encoder that it was made with: image_encoder of h94/IP-Adapter."
            )
        said: Tensor = self.model(self._pixels(picture)).image_embeds
        return said, torch.zeros_like(said)

    def patches(self, picture: Image.Image) -> Said:
        """Of each part of a picture; of none, what is said of a picture whose values are all 0."""
        pixels = self._pixels(picture)
        said, unseen = (
            self.model(each, output_hidden_states=True).hidden_states[PATCHES]
            for each in (pixels, torch.zeros_like(pixels))
        )
        return said, unseen

    def _pixels(self, picture: Image.Image) -> Tensor:
        pixels = self.preparing(picture.convert("RGB"), return_tensors="pt").pixel_values
        return pixels.to(self.model.device, self.model.dtype)  # type: ignore[no-any-return]


def load_vision(folder: Path, dtype: torch.dtype, device: torch.device) -> Vision:
    """A CLIP vision encoder from its folder. Raises what the loading libraries raise."""
    model = read_part(CLIPVisionModelWithProjection, folder, dtype, spare=[PROJECTION])
    if device.type == "cpu":
        make_steady(model)
    bring(model, device)
    side = model.config.image_size
    return Vision(model, CLIPImageProcessor(size=side, crop_size=side), _has_projection(folder), bytes_of(model))


def _has_projection(folder: Path) -> bool:
    """Whether the files have it; without, transformers would make one up."""
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            if PROJECTION in set(file.keys()):
                return True
    return False
