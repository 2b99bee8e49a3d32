"""Model folders for tests of identification: configs, and weights that are real headers over holes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.models.build import write_safetensors

SD_PARTS = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "safety_checker": [None, None],
}


def write_folder(path: Path, configs: Mapping[str, Any], weights: Mapping[str, Mapping[str, Sequence[int]]]) -> Path:
    """A folder of JSON files and of weight files, each with these tensors."""
    for name, content in configs.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(json.dumps(content))
    for name, shapes in weights.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path / name, shapes)
    return path


def folder_at(
    path: Path, *, pipeline: str = "StableDiffusionPipeline", weights: str = "safetensors", **unet: object
) -> Path:
    """A diffusers folder of SD-1, or of what its UNet's config says."""
    configs = {
        "model_index.json": {"_class_name": pipeline, **SD_PARTS},
        "unet/config.json": {"cross_attention_dim": 768, "in_channels": 4} | unet,
        "vae/config.json": {"latent_channels": 4},
        "text_encoder/config.json": {"hidden_size": unet.get("cross_attention_dim", 768)},
        "scheduler/scheduler_config.json": {"prediction_type": "epsilon"},
    }
    names = [f"{part}/model.{weights}" for part in ("unet", "vae", "text_encoder")]
    return write_folder(path, configs, {name: {"x": (1,)} for name in names})
