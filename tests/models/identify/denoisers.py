"""Headers of main models in the layout of diffusers, from diffusers' own classes at true sizes, on the meta device.

Built once per test session, a model at a time: nothing is allocated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.models.identify.architectures import diffusers

Shapes = dict[str, Sequence[int]]

_SD: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "layers_per_block": 2,
}
_SDXL: dict[str, Any] = {
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
_REFINER = _SDXL | {
    "block_out_channels": (384, 768, 1536, 1536),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": 4,
    "attention_head_dim": (6, 12, 24, 24),
    "cross_attention_dim": 1280,
    "projection_class_embeddings_input_dim": 2560,
}
_SD_3: dict[str, Any] = {
    "sample_size": 128,
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}
_CASCADE: dict[str, Any] = {
    "in_channels": 16,
    "out_channels": 16,
    "block_out_channels": (2048, 2048),
    "conditioning_dim": 2048,
    "clip_text_in_channels": 1280,
    "clip_text_pooled_in_channels": 1280,
    "clip_image_in_channels": 768,
    "num_attention_heads": (32, 32),
    "down_num_layers_per_block": (8, 24),
    "up_num_layers_per_block": (24, 8),
    "down_blocks_repeat_mappers": (1, 1),
    "up_blocks_repeat_mappers": (1, 1),
    "block_types_per_layer": (("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),) * 2,
}
_KOLORS = _SDXL | {
    "encoder_hid_dim": 4096,
    "encoder_hid_dim_type": "text_proj",
    "projection_class_embeddings_input_dim": 5632,
}
_COGVIEW_4 = {"num_attention_heads": 32, "attention_head_dim": 128, "num_layers": 28}
_HUNYUAN_DIT = {
    "num_attention_heads": 16,
    "attention_head_dim": 88,
    "in_channels": 4,
    "patch_size": 2,
    "hidden_size": 1408,
}
_HIDREAM = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 16,
    "num_single_layers": 32,
    "attention_head_dim": 128,
    "num_attention_heads": 20,
    "caption_channels": [4096, 4096],
    "text_emb_dim": 2048,
    "num_routed_experts": 4,
    "num_activated_experts": 2,
    "max_resolution": (128, 128),
    "axes_dims_rope": (64, 32, 32),
    "llama_layers": list(range(32)),
}

#: What it is: class, config, base, variant.
MODELS: dict[str, tuple[str, dict[str, Any], str, str | None]] = {
    "sd-1 unet": ("UNet2DConditionModel", _SD, "sd-1", "normal"),
    "sd-1 inpaint unet": ("UNet2DConditionModel", _SD | {"in_channels": 9}, "sd-1", "inpaint"),
    "sd-1 pix2pix unet": ("UNet2DConditionModel", _SD | {"in_channels": 8}, "sd-1", "edit"),
    "sd-2 unet": (
        "UNet2DConditionModel",
        _SD | {"cross_attention_dim": 1024, "use_linear_projection": True, "attention_head_dim": (5, 10, 20, 20)},
        "sd-2",
        "normal",
    ),
    "sdxl unet": ("UNet2DConditionModel", _SDXL, "sdxl", "normal"),
    "sdxl refiner unet": ("UNet2DConditionModel", _REFINER, "sdxl-refiner", "normal"),
    "kolors unet": ("UNet2DConditionModel", _KOLORS, "kolors", "normal"),
    "deepfloyd": (
        "UNet2DConditionModel",
        _SD | {"in_channels": 3, "encoder_hid_dim": 4096, "encoder_hid_dim_type": "text_proj"},
        "deepfloyd-if",
        None,
    ),
    "sd-3 medium": ("SD3Transformer2DModel", _SD_3, "sd-3", "medium"),
    "sd-3.5 medium": (
        "SD3Transformer2DModel",
        _SD_3 | {"qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13)), "pos_embed_max_size": 384},
        "sd-3",
        "medium",
    ),
    "sd-3.5 large": (
        "SD3Transformer2DModel",
        _SD_3 | {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "qk_norm": "rms_norm"},
        "sd-3",
        "large",
    ),
    "flux schnell": ("FluxTransformer2DModel", {}, "flux", "schnell"),
    "flux dev": ("FluxTransformer2DModel", {"guidance_embeds": True}, "flux", "dev"),
    "flux fill": ("FluxTransformer2DModel", {"guidance_embeds": True, "in_channels": 384}, "flux", "dev_fill"),
    "flux.2 dev": ("Flux2Transformer2DModel", {}, "flux2", "dev"),
    "flux.2 klein": (
        "Flux2Transformer2DModel",
        {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680},
        "flux2",
        "klein_4b",
    ),
    "flux.3": ("Flux3Transformer2DModel", {}, "flux3", None),
    "chroma": ("ChromaTransformer2DModel", {}, "chroma", None),
    "longcat": ("LongCatImageTransformer2DModel", {}, "longcat-image", None),
    "bria": ("BriaTransformer2DModel", {}, "bria", None),
    "ovis": ("OvisImageTransformer2DModel", {}, "ovis-image", None),
    "z-image": ("ZImageTransformer2DModel", {}, "z-image", "turbo"),
    "lumina 2": ("Lumina2Transformer2DModel", {}, "lumina2", None),
    "qwen-image": ("QwenImageTransformer2DModel", {}, "qwen-image", "generate"),
    "qwen-image 2.1": ("QwenImage21Transformer2DModel", {}, "qwen-image", None),
    "krea 2": ("Krea2Transformer2DModel", {}, "krea-2", "krea2_turbo"),
    "auraflow": ("AuraFlowTransformer2DModel", {}, "auraflow", None),
    "cogview 4": ("CogView4Transformer2DModel", _COGVIEW_4, "cogview4", None),
    "cogview 3 plus": ("CogView3PlusTransformer2DModel", {}, "cogview3", None),
    "cogvideox": ("CogVideoXTransformer3DModel", {}, "cogvideox", None),
    "glm-image": ("GlmImageTransformer2DModel", {}, "glm-image", None),
    "ideogram 4": ("Ideogram4Transformer2DModel", {}, "ideogram-4", None),
    "ernie-image": ("ErnieImageTransformer2DModel", {}, "ernie-image", None),
    "prx": ("PRXTransformer2DModel", {}, "prx", None),
    "nucleus": ("NucleusMoEImageTransformer2DModel", {}, "nucleus-image", None),
    "kandinsky 5": ("Kandinsky5Transformer3DModel", {}, "kandinsky", None),
    "kandinsky 3": ("Kandinsky3UNet", {}, "kandinsky", None),
    "sana": ("SanaTransformer2DModel", {}, "sana", None),
    "pixart": ("PixArtTransformer2DModel", {"caption_channels": 4096}, "pixart", None),
    "hunyuan-dit": ("HunyuanDiT2DModel", _HUNYUAN_DIT, "hunyuan-dit", None),
    "hidream": ("HiDreamImageTransformer2DModel", _HIDREAM, "hidream", None),
    "stable cascade c": ("StableCascadeUNet", _CASCADE, "stable-cascade", None),
    "stable cascade b": (
        "StableCascadeUNet",
        _CASCADE | {"clip_text_in_channels": None, "clip_image_in_channels": None, "effnet_in_channels": 16},
        "stable-cascade",
        None,
    ),
    "wan t2v": ("WanTransformer3DModel", {}, "wan", "t2v_a14b"),
    "wan i2v": ("WanTransformer3DModel", {"in_channels": 36}, "wan", "i2v_a14b"),
    "wan 5b": (
        "WanTransformer3DModel",
        {"in_channels": 48, "num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30},
        "wan",
        "ti2v_5b",
    ),
    "wan vace": ("WanVACETransformer3DModel", {}, "wan", None),
    "wan animate": ("WanAnimateTransformer3DModel", {}, "wan", None),
    "hunyuan-video": ("HunyuanVideoTransformer3DModel", {}, "hunyuan-video", None),
    "hunyuan-video 1.5": ("HunyuanVideo15Transformer3DModel", {}, "hunyuan-video", None),
    "hunyuan-image": ("HunyuanImageTransformer2DModel", {}, "hunyuan-image", None),
    "cosmos": ("CosmosTransformer3DModel", {}, "cosmos", None),
    "ltx-video": ("LTXVideoTransformer3DModel", {}, "ltx-video", None),
    "mochi": ("MochiTransformer3DModel", {}, "mochi", None),
    "svd": ("UNetSpatioTemporalConditionModel", {}, "svd", None),
}


def shapes_of(what: str) -> Shapes:
    """Names and shapes of one of `MODELS`."""
    class_name, config, _, _ = MODELS[what]
    return dict(diffusers(class_name, **config))
