"""Control models with random weights that fit the small models of `build.py`, as diffusers folders or files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, T2IAdapter
from PIL import Image as Pillow
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from invokeai_daemon.job.plan import ModelRef
from tests.engine.build import new_unet

#: Widths of what the vision encoder says: of a whole picture, and of its parts.
WHOLE, PATCH = 24, 32
#: Tokens of an IP-Adapter of the kind plus.
QUERIES = 4


def build_controlnet(folder: Path, unet: Any, seed: int, **words: Any) -> ModelRef:
    """A ControlNet that has much to say; a new one, whose ways out are 0, would say nothing."""
    torch.manual_seed(seed)
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 16, 16, 16))
    if words:
        net.register_to_config(**words)
    for name, parameter in net.named_parameters():
        if name.startswith(("controlnet_down_blocks", "controlnet_mid_block", "controlnet_cond_embedding.conv_out")):
            nn.init.normal_(parameter, std=0.1)
    net.save_pretrained(folder)
    return ModelRef(f"net-{seed}", str(folder), "sd-1", "controlnet", f"blake3:net{seed}", asked=f"net-{seed}")


def build_adapter(folder: Path, seed: int, **words: Any) -> ModelRef:
    torch.manual_seed(seed)
    common = {"in_channels": 3, "channels": [32, 64], "num_res_blocks": 1, "downscale_factor": 8}
    T2IAdapter(**{**common, **words}).save_pretrained(folder)
    return ModelRef(f"adapter-{seed}", str(folder), "sd-1", "t2i_adapter", f"blake3:t2i{seed}", asked=f"adapter-{seed}")


def build_vision(folder: Path) -> ModelRef:
    torch.manual_seed(5)
    config = CLIPVisionConfig(
        hidden_size=PATCH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=WHOLE,
        image_size=32,
        patch_size=16,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return ModelRef("vision", str(folder), "any", "clip_vision", "blake3:vision", asked="vision")


def prompter_tensors(unet: Any, seed: int, is_plus: bool = False) -> dict[str, Tensor]:
    """The tensors of an IP-Adapter under the names of its file."""
    torch.manual_seed(seed)
    width = unet.config.cross_attention_dim
    tensors = {f"image_proj.{name}": tensor for name, tensor in (_plus(width) if is_plus else _ordinary(width)).items()}
    crossing = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for place, name in enumerate(crossing):
        inner = unet.get_submodule(name.removesuffix(".processor")).inner_dim
        for kind in ("k", "v"):
            tensors[f"ip_adapter.{2 * place + 1}.to_{kind}_ip.weight"] = torch.randn(inner, width) / width**0.5
    return tensors


def _ordinary(width: int) -> dict[str, Tensor]:
    norm = {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    return {"proj.weight": torch.randn(4 * width, WHOLE), "proj.bias": torch.randn(4 * width), **norm}


def _plus(width: int) -> dict[str, Tensor]:
    """A resampler in the original names. Heads have 64 channels; there are four layers, as in every real one."""
    inner, hidden = 64, 48
    shapes = {
        "latents": (1, QUERIES, hidden),
        "proj_in.weight": (hidden, PATCH),
        "proj_in.bias": (hidden,),
        "proj_out.weight": (width, hidden),
        "proj_out.bias": (width,),
    }
    norms = {"norm_out": width}
    for layer in (f"layers.{number}" for number in range(4)):
        shapes |= {
            f"{layer}.0.to_q.weight": (inner, hidden),
            f"{layer}.0.to_kv.weight": (2 * inner, hidden),
            f"{layer}.0.to_out.weight": (hidden, inner),
            f"{layer}.1.1.weight": (4 * hidden, hidden),
            f"{layer}.1.3.weight": (hidden, 4 * hidden),
        }
        norms |= {f"{layer}.{norm}": hidden for norm in ("0.norm1", "0.norm2", "1.0")}
    ones = {f"{name}.weight": torch.ones(size) for name, size in norms.items()}
    zeros = {f"{name}.bias": torch.zeros(size) for name, size in norms.items()}
    return {**ones, **zeros, **{name: torch.randn(shape) / shape[-1] ** 0.5 for name, shape in shapes.items()}}


def build_prompter(file: Path, unet: Any, seed: int, is_plus: bool = False) -> ModelRef:
    save_file(prompter_tensors(unet, seed, is_plus), file)
    name = file.stem
    return ModelRef(name, str(file), "sd-1", "ip_adapter", f"blake3:ip{seed}", format="checkpoint", asked=name)


def picture(seed: int, width: int = 64, height: int = 64) -> Pillow.Image:
    """A picture of coarse coloured noise."""
    values = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Pillow.fromarray(values).resize((width, height), Pillow.Resampling.BICUBIC)


__all__ = ["build_adapter", "build_controlnet", "build_prompter", "build_vision", "new_unet", "picture"]
