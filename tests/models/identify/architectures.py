"""The keys and shapes of networks as diffusers and transformers make them, without their weights (the meta device)."""

from __future__ import annotations

import json
import warnings
from functools import cache
from typing import Any

Shapes = dict[str, tuple[int, ...]]


def diffusers(name: str, **config: Any) -> Shapes:
    """A network of diffusers; without arguments in its default size."""
    return dict(_diffusers(name, json.dumps(config)))


def transformers(name: str, config_name: str, **config: Any) -> Shapes:
    return dict(_transformers(name, config_name, json.dumps(config)))


@cache
def _diffusers(name: str, config: str) -> Shapes:
    import diffusers as library
    import torch

    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        return _shapes(getattr(library, name)(**json.loads(config)))


@cache
def _transformers(name: str, config_name: str, config: str) -> Shapes:
    import torch
    import transformers as library

    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        network = getattr(library, name)
        made = getattr(library, config_name)(**json.loads(config))
        return _shapes(network._from_config(made))


def _shapes(network: Any) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def under(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + key: shape for key, shape in shapes.items()}


#: Sizes of the published models, as far as they tell them apart; fewer layers.
KL = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
}
NO_QUANT = {"use_quant_conv": False, "use_post_quant_conv": False}


def vae(latents: int = 4, **config: Any) -> Shapes:
    """A plain VAE under diffusers' names."""
    return diffusers("AutoencoderKL", latent_channels=latents, **(KL | config))


def original_vae(latents: int = 4, *, quant: bool = True) -> Shapes:
    """The telling part of a plain VAE under the names of its first trainer."""
    shapes: Shapes = {
        "encoder.conv_in.weight": (128, 3, 3, 3),
        "encoder.conv_out.weight": (2 * latents, 512, 3, 3),
        "decoder.conv_in.weight": (512, latents, 3, 3),
        "decoder.conv_out.weight": (3, 128, 3, 3),
    }
    for level in range(4):
        for block in range(2):
            shapes[f"encoder.down.{level}.block.{block}.conv1.weight"] = (128, 128, 3, 3)
            shapes[f"decoder.up.{level}.block.{block}.conv1.weight"] = (128, 128, 3, 3)
    for tower in ("encoder", "decoder"):
        shapes[f"{tower}.mid.attn_1.q.weight"] = (512, 512, 1, 1)
        shapes[f"{tower}.mid.block_1.conv1.weight"] = (512, 512, 3, 3)
    if quant:
        shapes |= {
            "quant_conv.weight": (2 * latents, 2 * latents, 1, 1),
            "post_quant_conv.weight": (latents,) * 2 + (1, 1),
        }
    return shapes


def original_unet(context: int, prefix: str = "", *, sizes: bool = False) -> Shapes:
    """The telling part of a UNet's first half under the names of the original Stable Diffusion."""
    shapes: Shapes = {
        "input_blocks.0.0.weight": (320, 4, 3, 3),
        "time_embed.0.weight": (1280, 320),
        "middle_block.1.transformer_blocks.0.attn2.to_k.weight": (1280, context),
    }
    for block in (4, 5, 7, 8) if sizes else (1, 2, 4, 5, 7, 8):
        shapes[f"input_blocks.{block}.1.proj_in.weight"] = (640, 640) if sizes or context == 1024 else (640, 640, 1, 1)
        for layer in range(2 if sizes else 1):
            shapes[f"input_blocks.{block}.1.transformer_blocks.{layer}.attn2.to_k.weight"] = (640, context)
    if sizes:
        shapes["label_emb.0.0.weight"] = (1280, 2816)
    return under(prefix, shapes)


def original_controlnet(context: int, prefix: str = "", *, sizes: bool = False) -> Shapes:
    shapes = original_unet(context, prefix, sizes=sizes)
    for number in range(9 if sizes else 12):
        shapes[f"{prefix}zero_convs.{number}.0.weight"] = (320, 320, 1, 1)
    for number in range(0, 15, 2):
        shapes[f"{prefix}input_hint_block.{number}.weight"] = (16, 3, 3, 3)
    return shapes | {f"{prefix}middle_block_out.0.weight": (1280, 1280, 1, 1)}
