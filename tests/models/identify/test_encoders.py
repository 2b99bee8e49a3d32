"""Encoders of texts and pictures are known alone in a file, by their widths and by what only one family has."""

from __future__ import annotations

from typing import Any

import pytest

from invokeai_daemon.models.identify import judge
from invokeai_daemon.models.sidecar import Sidecar
from tests.models.build import header_of
from tests.models.identify.architectures import Shapes, transformers, under

Case = tuple[str, Shapes, str, str | None]

TWO: dict[str, Any] = {"num_hidden_layers": 2}
CLIP_L = transformers("CLIPTextModel", "CLIPTextConfig", hidden_size=768, num_attention_heads=12, **TWO)
CLIP_G = transformers(
    "CLIPTextModelWithProjection",
    "CLIPTextConfig",
    hidden_size=1280,
    num_attention_heads=20,
    projection_dim=1280,
    **TWO,
)
T5 = transformers("T5EncoderModel", "T5Config", d_model=4096, d_ff=10240, num_layers=2, num_heads=64)


def open_clip_text(width: int) -> Shapes:
    shapes: Shapes = {"token_embedding.weight": (49408, width), "positional_embedding": (77, width)}
    for block in range(3):
        shapes |= {
            f"transformer.resblocks.{block}.attn.in_proj_weight": (3 * width, width),
            f"transformer.resblocks.{block}.mlp.c_fc.weight": (4 * width, width),
        }
    return shapes | {"ln_final.weight": (width,), "text_projection": (width, width)}


def bare(shapes: Shapes) -> Shapes:
    return {name.removeprefix("text_model."): shape for name, shape in shapes.items()}


TEXTS: list[Case] = [
    ("CLIP-L", CLIP_L, "clip_embed", "large"),
    ("CLIP-L before transformers 5", under("text_model.", bare(CLIP_L)), "clip_embed", "large"),
    ("CLIP-L in a wrapper", under("text_encoders.clip_l.transformer.text_model.", bare(CLIP_L)), "clip_embed", "large"),
    ("CLIP-L of a checkpoint", under("cond_stage_model.transformer.text_model.", bare(CLIP_L)), "clip_embed", "large"),
    ("CLIP-G", CLIP_G, "clip_embed", "gigantic"),
    ("CLIP-G of OpenCLIP", open_clip_text(1280), "clip_embed", "gigantic"),
    ("T5-XXL", T5, "t5_encoder", None),
    ("T5-XXL in a wrapper", under("text_encoders.t5xxl.transformer.", T5), "t5_encoder", None),
    (
        "T5-XXL with its decoder",
        transformers("T5ForConditionalGeneration", "T5Config", d_model=4096, num_layers=2, num_heads=64),
        "t5_encoder",
        None,
    ),
    (
        "T5-XXL by llama.cpp",
        {"token_embd.weight": (32128, 4096), "enc.blk.0.attn_q.weight": (4096, 4096)},
        "t5_encoder",
        None,
    ),
    (
        "UMT5",
        transformers("UMT5EncoderModel", "UMT5Config", d_model=4096, num_layers=2, num_heads=64, vocab_size=256384),
        "wan_t5_encoder",
        None,
    ),
    (
        "UMT5 by Wan",
        {
            "token_embedding.weight": (256384, 4096),
            "blocks.0.pos_embedding.embedding.weight": (32, 64),
            "blocks.0.ffn.gate.0.weight": (10240, 4096),
        },
        "wan_t5_encoder",
        None,
    ),
    *(
        (
            f"Qwen3 {word}",
            transformers("Qwen3ForCausalLM", "Qwen3Config", hidden_size=width, **TWO),
            "qwen3_encoder",
            word,
        )
        for width, word in ((1024, "qwen3_06b"), (2560, "qwen3_4b"), (4096, "qwen3_8b"))
    ),
    (
        "Qwen3 without its head",
        transformers("Qwen3Model", "Qwen3Config", hidden_size=2560, **TWO),
        "qwen3_encoder",
        "qwen3_4b",
    ),
    (
        "Qwen2.5-VL",
        transformers(
            "Qwen2_5_VLForConditionalGeneration",
            "Qwen2_5_VLConfig",
            text_config={"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4, **TWO},
            vision_config={"depth": 2},
        ),
        "qwen_vl_encoder",
        None,
    ),
    (
        "Qwen3-VL",
        transformers(
            "Qwen3VLForConditionalGeneration",
            "Qwen3VLConfig",
            text_config={"hidden_size": 2560, **TWO},
            vision_config={"depth": 2},
        ),
        "qwen3_vl_encoder",
        None,
    ),
    ("Gemma 2", transformers("Gemma2ForCausalLM", "Gemma2Config", hidden_size=2304, **TWO), "gemma2_encoder", None),
    *(
        (
            f"Mistral Small of {layers} layers",
            transformers(
                "MistralForCausalLM",
                "MistralConfig",
                hidden_size=5120,
                num_hidden_layers=layers,
                vocab_size=131072,
                head_dim=128,
            ),
            "mistral_encoder",
            word,
        )
        for layers, word in ((40, "mistral3_24b"), (30, "cow_mistral3_small"))
    ),
]
VISION_H = transformers(
    "CLIPVisionModelWithProjection", "CLIPVisionConfig", hidden_size=1280, num_attention_heads=16, **TWO
)
PICTURES: list[Case] = [
    ("CLIP ViT-H", VISION_H, "clip_vision", None),
    ("CLIP ViT-H in a wrapper", under("image_encoder.", VISION_H), "clip_vision", None),
    (
        "CLIP ViT-bigG",
        transformers(
            "CLIPVisionModelWithProjection", "CLIPVisionConfig", hidden_size=1664, num_attention_heads=16, **TWO
        ),
        "clip_vision",
        None,
    ),
    (
        "SigLIP",
        transformers("SiglipVisionModel", "SiglipVisionConfig", hidden_size=1152, num_attention_heads=16, **TWO),
        "siglip",
        None,
    ),
    ("Redux", {"redux_up.weight": (12288, 1152), "redux_down.weight": (4096, 12288)}, "flux_redux", None),
]


@pytest.mark.parametrize(
    ("shapes", "type_", "variant"), [case[1:] for case in TEXTS + PICTURES], ids=[case[0] for case in TEXTS + PICTURES]
)
def test_an_encoder_is_known_alone(shapes: Shapes, type_: str, variant: str | None) -> None:
    verdict = judge(header_of(shapes))
    identity = verdict.identity
    assert (verdict.state, identity.type, identity.variant, identity.format) == ("ok", type_, variant, "checkpoint")
    assert identity.base == ("flux" if type_ == "flux_redux" else "any")


BOTH = transformers("CLIPModel", "CLIPConfig", text_config={"hidden_size": 768, "num_attention_heads": 12, **TWO})


def test_a_whole_clip_encodes_texts_unless_its_sidecar_says_pictures() -> None:
    assert judge(header_of(BOTH)).identity.type == "clip_embed"
    said = judge(header_of(BOTH), Sidecar.model_validate({"type": "clip_vision"}))
    assert (said.state, said.identity.type) == ("ok", "clip_vision")


UNUSABLE: list[tuple[str, Shapes, str, str]] = [
    ("SD-2's text encoder", open_clip_text(1024), "clip_embed", "SD-2"),
    (
        "CLIP-B",
        transformers("CLIPTextModel", "CLIPTextConfig", hidden_size=512, num_attention_heads=8, **TWO),
        "clip_embed",
        "512",
    ),
    ("T5-XL", transformers("T5EncoderModel", "T5Config", d_model=2048, num_layers=2), "t5_encoder", "T5-XXL"),
    (
        "Pile-T5",
        transformers("UMT5EncoderModel", "UMT5Config", d_model=2048, num_layers=2, num_heads=32, vocab_size=32128),
        "t5_encoder",
        "AuraFlow",
    ),
    ("Qwen3 14B", transformers("Qwen3ForCausalLM", "Qwen3Config", hidden_size=5120, **TWO), "qwen3_encoder", "5120"),
    ("Gemma 3", transformers("Gemma3ForCausalLM", "Gemma3TextConfig", hidden_size=2560, **TWO), "text_llm", "Gemma 3"),
    (
        "Llama 3",
        transformers("LlamaForCausalLM", "LlamaConfig", vocab_size=128256, **TWO),
        "text_llm",
        "language model",
    ),
    ("Qwen2", transformers("Qwen2ForCausalLM", "Qwen2Config", hidden_size=2048, **TWO), "text_llm", "language model"),
    ("Mistral 7B", transformers("MistralForCausalLM", "MistralConfig", **TWO), "text_llm", "language model"),
    ("GPT-2", transformers("GPT2LMHeadModel", "GPT2Config", n_layer=2), "prompt_enhancer", "GPT-2"),
    (
        "ChatGLM",
        {"transformer.encoder.layers.0.self_attention.query_key_value.weight": (4608, 4096)},
        "text_llm",
        "Kolors",
    ),
    ("DINOv2", transformers("Dinov2Model", "Dinov2Config", **TWO), "other", "DINOv2"),
]


@pytest.mark.parametrize(
    ("shapes", "type_", "why"), [case[1:] for case in UNUSABLE], ids=[case[0] for case in UNUSABLE]
)
def test_an_encoder_that_nothing_uses_is_named_and_says_so(shapes: Shapes, type_: str, why: str) -> None:
    verdict = judge(header_of(shapes))
    assert (verdict.state, verdict.identity.type) == ("unusable", type_)
    assert why in verdict.reason
