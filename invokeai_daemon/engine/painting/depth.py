"""Depth: how near things are in a picture, as the estimator in a model's own folder says. Called by the depth mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from transformers import DPTForDepthEstimation, DPTImageProcessor

from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.errors import RenderError

ESTIMATOR, PROCESSOR = "depth_estimator", "feature_extractor"


@torch.inference_mode()
def estimated_depth(pipeline: Pipeline, picture: PIL.Image.Image) -> Tensor:
    """The depth of a picture, [height, width], nearer is more. Raises RenderError where the model has no estimator."""
    processor, estimator = _estimator(pipeline)
    pixels = processor(images=picture, return_tensors="pt").pixel_values.to(pipeline.device)
    with pipeline.share.computing():
        depth: Tensor = estimator(pixels).predicted_depth[0]
    return depth.cpu()


def _estimator(pipeline: Pipeline) -> tuple[Any, Any]:
    if ESTIMATOR not in pipeline.extras:
        folder = Path(pipeline.model.path)
        if not (folder / ESTIMATOR / "config.json").is_file():
            raise RenderError(
                f'model "{pipeline.model.name}" has no estimator of depth in {folder / ESTIMATOR}. '
                "Give a depth map, bright is near, with depth under [init]."
            )
        processor = DPTImageProcessor.from_pretrained(folder / PROCESSOR, local_files_only=True)
        # Its batch norms are not for short numbers.
        estimator = DPTForDepthEstimation.from_pretrained(
            folder / ESTIMATOR, local_files_only=True, dtype=torch.float32
        )
        pipeline.extras[ESTIMATOR] = processor, estimator.requires_grad_(False).eval().to(pipeline.device)
    processor, estimator = pipeline.extras[ESTIMATOR]
    return processor, estimator
