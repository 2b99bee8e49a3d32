"""Model folders for tests of identification: configs, and weights that are empty files."""

from __future__ import annotations

import json
from pathlib import Path


def folder_at(
    path: Path, *, pipeline: str = "StableDiffusionPipeline", weights: str = "safetensors", **unet: object
) -> Path:
    configs = {
        "model_index.json": {
            "_class_name": pipeline,
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "safety_checker": [None, None],
        },
        "unet/config.json": {"cross_attention_dim": 768, "in_channels": 4} | unet,
        "vae/config.json": {"latent_channels": 4},
        "text_encoder/config.json": {"hidden_size": unet.get("cross_attention_dim", 768)},
        "scheduler/scheduler_config.json": {"prediction_type": "epsilon"},
    }
    for name, content in configs.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(json.dumps(content))
    for part in ("unet", "vae", "text_encoder"):
        (path / part / f"model.{weights}").write_bytes(b"")
    return path
