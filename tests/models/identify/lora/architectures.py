"""The modules of the true architectures, from the classes of diffusers and transformers on torch's meta device."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

#: A module's name and the shape of its weight.
Modules = tuple[tuple[str, tuple[int, ...]], ...]

_SD = {"cross_attention_dim": 768}
_XL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_REFINER = {
    "block_out_channels": (384, 768, 1536, 1536),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": 4,
    "attention_head_dim": (6, 12, 24, 24),
    "cross_attention_dim": 1280,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2560,
}
_SD_3 = {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pooled_projection_dim": 2048}

#: Name -> base, class of diffusers, and the config of the published model where it is not the class's default.
DENOISERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sd-1": ("sd-1", "UNet2DConditionModel", _SD),
    "sd-2": ("sd-2", "UNet2DConditionModel", {"cross_attention_dim": 1024, "use_linear_projection": True}),
    "sdxl": ("sdxl", "UNet2DConditionModel", _XL),
    "refiner": ("sdxl-refiner", "UNet2DConditionModel", _REFINER),
    "sd-3 medium": ("sd-3", "SD3Transformer2DModel", {**_SD_3, "joint_attention_dim": 4096, "in_channels": 16}),
    "sd-3.5 medium": (
        "sd-3",
        "SD3Transformer2DModel",
        {**_SD_3, "joint_attention_dim": 4096, "in_channels": 16, "dual_attention_layers": tuple(range(13))},
    ),
    "sd-3.5 large": (
        "sd-3",
        "SD3Transformer2DModel",
        {
            "num_layers": 38,
            "num_attention_heads": 38,
            "caption_projection_dim": 2432,
            "pooled_projection_dim": 2048,
            "joint_attention_dim": 4096,
            "in_channels": 16,
        },
    ),
    "flux": ("flux", "FluxTransformer2DModel", {"guidance_embeds": True}),
    "chroma": ("chroma", "ChromaTransformer2DModel", {}),
    "flux2 klein 4b": (
        "flux2",
        "Flux2Transformer2DModel",
        {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680},
    ),
    "flux2 klein 9b": (
        "flux2",
        "Flux2Transformer2DModel",
        {"num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32, "joint_attention_dim": 12288},
    ),
    "flux2 dev": ("flux2", "Flux2Transformer2DModel", {}),
    "z-image": ("z-image", "ZImageTransformer2DModel", {}),
    "qwen-image": ("qwen-image", "QwenImageTransformer2DModel", {}),
    "qwen-image 2": ("qwen-image", "QwenImage21Transformer2DModel", {}),
    "krea-2": ("krea-2", "Krea2Transformer2DModel", {}),
    "ernie-image": (
        "ernie-image",
        "ErnieImageTransformer2DModel",
        {
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_layers": 36,
            "ffn_hidden_size": 12288,
            "text_in_dim": 3072,
        },
    ),
    "ideogram-4": ("ideogram-4", "Ideogram4Transformer2DModel", {}),
    "cogview4": (
        "cogview4",
        "CogView4Transformer2DModel",
        {"num_layers": 28, "num_attention_heads": 32, "attention_head_dim": 128},
    ),
    "wan 14b": ("wan", "WanTransformer3DModel", {"image_dim": 1280, "added_kv_proj_dim": 5120, "in_channels": 36}),
    "wan 1.3b": ("wan", "WanTransformer3DModel", {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}),
    "wan 5b": (
        "wan",
        "WanTransformer3DModel",
        {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30, "in_channels": 48, "out_channels": 48},
    ),
    "lumina2": ("lumina2", "Lumina2Transformer2DModel", {"cap_feat_dim": 2304}),
    "pixart": ("pixart", "PixArtTransformer2DModel", {}),
    "auraflow": ("auraflow", "AuraFlowTransformer2DModel", {}),
    "hunyuan-video": ("hunyuan-video", "HunyuanVideoTransformer3DModel", {}),
    "hunyuan-image": ("hunyuan-image", "HunyuanImageTransformer2DModel", {}),
    "ltx-video": ("ltx-video", "LTXVideoTransformer3DModel", {}),
    "mochi": ("mochi", "MochiTransformer3DModel", {}),
    "sana": ("sana", "SanaTransformer2DModel", {}),
    "cogvideox": ("cogvideox", "CogVideoXTransformer3DModel", {}),
    "kandinsky": ("kandinsky", "Kandinsky5Transformer3DModel", {}),
    "hidream": (
        "hidream",
        "HiDreamImageTransformer2DModel",
        {
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 16,
            "num_single_layers": 32,
            "caption_channels": [4096, 4096],
            "text_emb_dim": 2048,
            "num_routed_experts": 4,
            "num_activated_experts": 2,
            "axes_dims_rope": (64, 32, 32),
            "max_resolution": (128, 128),
            "llama_layers": [*range(32), *[31] * 16],
        },
    ),
    "stable-cascade": ("stable-cascade", "StableCascadeUNet", {}),
}

_CLIPS = {"clip_l": (768, 3072, 12, 12), "clip_h": (1024, 4096, 23, 16), "clip_g": (1280, 5120, 32, 20)}


@cache
def denoiser(name: str) -> Modules:
    """The linear layers, convolutions and norms of a UNet or transformer, under diffusers' names."""
    import diffusers

    _, class_name, config = DENOISERS[name]
    return _modules(getattr(diffusers, class_name), **config)


@cache
def encoder(name: str) -> Modules:
    """The same of a text encoder, under the names of transformers."""
    import transformers

    if name == "t5":
        config = transformers.T5Config(
            d_model=4096, d_ff=10240, num_layers=24, num_heads=64, d_kv=64, feed_forward_proj="gated-gelu"
        )
        return _modules(transformers.T5EncoderModel, config)
    width, inner, layers, heads = _CLIPS[name]
    clip = transformers.CLIPTextConfig(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads
    )
    # Version 5 of transformers drops what every file still has.
    modules = _modules(transformers.CLIPTextModel, clip)
    return tuple(("text_model." + name.removeprefix("text_model."), shape) for name, shape in modules)


def _modules(make: Any, *values: Any, **named: Any) -> Modules:
    import torch
    from torch import nn

    kinds = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.LayerNorm, nn.GroupNorm)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make(*values, **named)
    return tuple(
        (name, tuple(module.weight.shape))
        for name, module in model.named_modules()
        if isinstance(module, kinds) and module.weight is not None
    )
