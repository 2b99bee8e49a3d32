"""Depth: how near things are in a picture, as a depth model of transformers says. Loaded once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate
from transformers import AutoConfig, AutoImageProcessor, AutoModelForDepthEstimation

from invokeai_daemon.engine.loading.parts import bring, bytes_of
from invokeai_daemon.errors import RenderError

#: What says how pictures are brought to the size that a model wants.
PREPARING = "preprocessor_config.json"


@dataclass(frozen=True, eq=False)
class Estimator:
    """A loaded depth model."""

    #: transformers' model.
    model: Any
    preparing: Any
    #: Whether it says how far things are, in metres; else how near.
    says_distance: bool
    size: int

    @torch.inference_mode()
    def depth(self, picture: Image.Image) -> Image.Image:
        """The depths of a picture, grey, what is nearest white and what is farthest black."""
        pixels = self.preparing(images=picture.convert("RGB"), return_tensors="pt").pixel_values
        told = self.model(pixels.to(self.model.device)).predicted_depth.float()
        near = 1 / told.clamp(min=1e-3) if self.says_distance else told
        near = interpolate(near[:, None], (picture.height, picture.width), mode="bicubic", align_corners=False)[0, 0]
        span = (near.max() - near.min()).clamp(min=1e-12)
        values = ((near - near.min()) / span * 255).round().cpu().numpy()
        return Image.fromarray(values.astype(np.uint8))


def load_estimator(folder: Path, device: torch.device) -> Estimator:
    """A depth model from its folder. Raises RenderError, and what transformers raises."""
    if not (folder / PREPARING).is_file():
        raise RenderError(f"it has no {PREPARING}, which says what it wants to see. Get the whole folder again")
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    # Its norms are not for short numbers.
    model = AutoModelForDepthEstimation.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    model.requires_grad_(False).eval()
    bring(model, device)
    preparing = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    return Estimator(model, preparing, _says_distance(config), bytes_of(model))


def _says_distance(config: Any) -> bool:
    return config.model_type == "zoedepth" or getattr(config, "depth_estimation_type", "relative") == "metric"
