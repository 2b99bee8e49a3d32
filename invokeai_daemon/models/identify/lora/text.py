"""Text encoders: their layers, and which bases a LoRA for one of them can be for.

The same CLIP reads the prompts of SD-1, SDXL, SD-3 and FLUX, so the encoder alone seldom tells. But trainers number
what they train: kohya writes `lora_te_` only where there is one encoder, so that CLIP-L under it is that of SD-1.
"""

from __future__ import annotations

from collections.abc import Mapping

from invokeai_daemon.models.identify.lora.modules import Architecture


def _clip(w: int, n: int) -> str:
    return f"""
    encoder.layers.[{n}].self_attn.(q_proj|k_proj|v_proj|out_proj) {w}x{w}
    encoder.layers.[{n}].mlp.fc1 {4 * w}x{w}
    encoder.layers.[{n}].mlp.fc2 {w}x{4 * w}
    encoder.layers.[{n}].(layer_norm1|layer_norm2) {w}
    embeddings.token_embedding 49408x{w}
    embeddings.position_embedding 77x{w}
    final_layer_norm {w}
    text_projection {w}x{w}
    """


def _llm(w: int, n: int, keys: int, inner: int, queries: int | None = None) -> str:
    """A language model with grouped queries: Gemma, Qwen, Llama."""
    wide = queries or w
    return f"""
    layers.[{n}].self_attn.q_proj {wide}x{w}
    layers.[{n}].self_attn.o_proj {w}x{wide}
    layers.[{n}].self_attn.(k_proj|v_proj) {keys}x{w}
    layers.[{n}].mlp.(gate_proj|up_proj) {inner}x{w}
    layers.[{n}].mlp.down_proj {w}x{inner}
    """


_T5 = """
    encoder.block.[24].layer.0.SelfAttention.(q|k|v|o) 4096x4096
    encoder.block.[24].layer.1.DenseReluDense.(wi_0|wi_1) 10240x4096
    encoder.block.[24].layer.1.DenseReluDense.wo 4096x10240
    blocks.[24].attn.(q|k|v|o) 4096x4096
    blocks.[24].ffn.(gate.0|fc1) 10240x4096
    blocks.[24].ffn.fc2 4096x10240
    shared 32128x4096 256384x4096
"""

TOWERS = (
    Architecture("clip_l", _clip(768, 12), name="CLIP-L"),
    Architecture("clip_h", _clip(1024, 24), name="OpenCLIP-H"),
    Architecture("clip_g", _clip(1280, 32), name="OpenCLIP-G"),
    Architecture("t5", _T5, name="T5-XXL"),
    Architecture("gemma2", _llm(2304, 26, 1024, 9216, 2048), name="Gemma 2 2B"),
    Architecture("qwen3_06b", _llm(1024, 28, 1024, 3072, 2048), name="Qwen3 0.6B"),
    Architecture("qwen3_4b", _llm(2560, 36, 1024, 9728, 4096), name="Qwen3 4B"),
    Architecture("qwen3_8b", _llm(4096, 36, 1024, 12288), name="Qwen3 8B"),
    Architecture("qwen25_vl", _llm(3584, 28, 512, 18944), name="Qwen2.5-VL 7B"),
    Architecture("llama", _llm(4096, 32, 1024, 14336), name="Llama 3 8B"),
)

_SINGLE: Mapping[str, tuple[str, ...]] = {
    "clip_l": ("sd-1",),
    "clip_h": ("sd-2",),
    "clip_g": ("stable-cascade", "sdxl-refiner"),
    "t5": ("pixart", "chroma", "wan"),
    "gemma2": ("lumina2", "sana"),
    "qwen3_06b": ("anima",),
    "qwen3_4b": ("z-image", "flux2"),
    "qwen3_8b": ("flux2",),
    "qwen25_vl": ("qwen-image",),
    "llama": ("hunyuan-video", "hidream"),
}
_CLIP_L = ("sdxl", "sd-3", "flux", "hidream")
_CLIP_G = ("sdxl", "sd-3", "hidream", "sdxl-refiner")
_SECOND = {"clip_g": _CLIP_G, "t5": ("flux",), "clip_l": ("hunyuan-video",)}

#: Part -> encoder -> the bases whose pipeline has that encoder in that place.
PLACES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "te": _SINGLE,
    "te1": {**_SINGLE, "clip_l": _CLIP_L, "clip_g": ("sdxl-refiner",)},
    "te2": _SECOND,
    "te3": {"t5": ("sd-3", "hidream")},
    "te4": {"llama": ("hidream",)},
    "text_encoder": {**_SINGLE, "clip_l": ("sd-1", *_CLIP_L)},
    "text_encoder_2": _SECOND,
    "text_encoder_3": {"t5": ("sd-3", "hidream")},
    "clip_l": {"clip_l": ("sd-1", *_CLIP_L)},
    "clip_g": {"clip_g": _CLIP_G},
    "t5": {"t5": ("sd-3", "flux", "pixart", "chroma", "wan", "hidream")},
}
