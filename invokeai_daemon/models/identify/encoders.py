"""Encoders: CLIP, T5 and other encoders of texts and pictures, alone in a file, and language models.

Widths, depths and what only one family has (norms, biases) tell them apart. Full models that hold both towers of CLIP
are encoders of texts first, as InvokeAI has it; a folder or a sidecar may say clip_vision.
"""

from __future__ import annotations

from invokeai_daemon.models.identify import language_models
from invokeai_daemon.models.identify.rules import first, most_of_it, note, size
from invokeai_daemon.models.identify.table import (
    Answer,
    Choice,
    Family,
    axis,
    both,
    either,
    has,
    lacks,
    whole,
)
from invokeai_daemon.models.identify.weights import Weights

_NO_LORA = lacks("*.lora_down.weight", "*.lora_A.weight", called="low-rank matrices")

# CLIP

_CLIP_UNDER = (
    "cond_stage_model.transformer.",
    "cond_stage_model.model.",
    "conditioner.embedders.0.transformer.",
    "conditioner.embedders.0.model.",
    "conditioner.embedders.1.model.",
    "text_encoders.clip_l.transformer.",
    "text_encoders.clip_g.transformer.",
    "text_encoder.",
    "text_encoder_2.",
    "clip_l.transformer.",
    "clip_g.transformer.",
    "clip_l.",
    "clip_g.",
    "te_text_model.",
    "clip.",
    "model.",
    "",
)
#: Names without `text_model.`, which transformers 5 leaves out.
_TEXT_UNDER = (*(f"{prefix}text_model." for prefix in _CLIP_UNDER), *_CLIP_UNDER)
_TOKEN = "embeddings.token_embedding.weight"
_TEXT_WIDTH = (
    _TOKEN,
    f"text_model.{_TOKEN}",
    "token_embedding.weight",
    "encoder.layers.0.self_attn.q_proj.weight",
    "text_model.encoder.layers.0.self_attn.q_proj.weight",
    "transformer.resblocks.0.attn.in_proj_weight",
)
_CLIP_VARIANT = Choice(
    (
        ("large", axis(_TEXT_WIDTH, -1, 768, called="text width")),
        ("gigantic", axis(_TEXT_WIDTH, -1, 1280, called="text width")),
    )
)


def _known_width(weights: Weights) -> str:
    width = size(weights, first(weights, _TEXT_WIDTH), -1)
    if width == 1024:
        return "the text encoder of SD-2 (OpenCLIP ViT-H) is used only as a part of a model. Drop a whole SD-2 model"
    if width not in (768, 1280):
        return f"its width is {width}; the models that this program knows use CLIP of width 768 and 1280"
    return ""


_TEXT_HF = has("text_model.encoder.layers.0.self_attn.*", called="CLIP's text layers")
_NOT_CLIP = whole(
    lacks(
        "vision_model.head.*",
        "text_model.head.*",
        "decoder.film_mul.*",
        "concept_embeds",
        "language_model.*",
        "model.language_model.*",
        "image_proj.*",
        called="what is more than CLIP",
    )
)


def _clip_tokens(weights: Weights) -> Answer:
    """CLIP knows 49,408 tokens; a few more may have been learned. (A rule.)"""
    tokens = size(weights, _TOKEN, 0)
    holds = tokens is None or 49408 <= tokens < 50000
    return Answer(holds, f"it knows {tokens:,} tokens" if tokens else "")


_CLIP: tuple[Family, ...] = (
    Family(
        "clip_embed",
        "any",
        "a CLIP text encoder",
        marks=(
            has("encoder.layers.0.self_attn.*", called="CLIP's text layers"),
            either(
                has(_TOKEN, "embeddings.position_embedding.weight", called="CLIP's tokens"),
                lambda weights: Answer(weights.prefix.endswith("text_model.")),
            ),
            lacks("*.lora_down.weight", "*.lora_up.weight", "*.lora_A.weight", called="low-rank matrices"),
            _NOT_CLIP,
            whole(lacks("vision_model.encoder.*", "embeddings.patch_embedding.weight", called="a tower for pictures")),
            most_of_it,
        ),
        rules=(_clip_tokens,),
        under=_TEXT_UNDER,
        variant=_CLIP_VARIANT,
        unusable=_known_width,
    ),
    Family(
        "clip_embed",
        "any",
        "a CLIP text encoder under OpenCLIP's names",
        marks=(
            has("transformer.resblocks.0.attn.in_proj_weight", called="OpenCLIP's text layers"),
            has("token_embedding.weight", called="CLIP's tokens"),
            lacks("visual.*", called="a tower for pictures"),
            most_of_it,
        ),
        under=_CLIP_UNDER,
        variant=_CLIP_VARIANT,
        unusable=_known_width,
    ),
    Family(
        "clip_embed",
        "any",
        "a whole CLIP with both towers",
        marks=(
            either(
                both(_TEXT_HF, has("vision_model.encoder.layers.0.*", called="a tower for pictures")),
                both(
                    has("transformer.resblocks.0.attn.in_proj_weight", called="OpenCLIP's text layers"),
                    has("visual.*", called="a tower for pictures"),
                ),
            ),
            _NOT_CLIP,
            most_of_it,
        ),
        rules=(note('a sidecar with type = "clip_vision" makes it an encoder of pictures'),),
        under=_CLIP_UNDER,
        variant=_CLIP_VARIANT,
        unusable=_known_width,
        before=("clip_vision",),
    ),
)

_PREFIXES = ("image_encoder.", "vision_tower.", "clip_vision.", "cond_stage_model.", "embedder.", "")
_VISION_UNDER = (*(f"{prefix}vision_model." for prefix in _PREFIXES), *_PREFIXES)
_PATCHES = ("embeddings.patch_embedding.weight", "visual.conv1.weight")


def _vision_name(weights: Weights) -> Answer:
    names = {768: "ViT-B", 1024: "ViT-L", 1280: "ViT-H", 1408: "ViT-g", 1664: "ViT-bigG"}
    width = size(weights, first(weights, _PATCHES), 0)
    return Answer(width in names, f"its width is {width}: {names.get(width or 0, 'of no known CLIP')}")


_VISION: tuple[Family, ...] = (
    Family(
        "clip_vision",
        "any",
        "a CLIP vision encoder",
        marks=(
            has("encoder.layers.0.*", called="CLIP's layers for pictures"),
            has("pre_layrnorm.weight", called="the first norm of CLIP"),
            has("embeddings.patch_embedding.weight", called="CLIP's patches"),
            _NOT_CLIP,
        ),
        rules=(_vision_name,),
        under=_VISION_UNDER,
    ),
    Family(
        "clip_vision",
        "any",
        "a CLIP vision encoder under OpenCLIP's names",
        marks=(
            has("visual.transformer.resblocks.0.*", called="CLIP's layers for pictures"),
            has("visual.conv1.weight", called="CLIP's patches"),
            lacks("transformer.resblocks.0.*", called="a tower for texts"),
            most_of_it,
        ),
        rules=(_vision_name,),
        under=_PREFIXES,
        unusable="its names are those of OpenCLIP. Drop the same encoder in the layout of transformers (image_encoder)",
    ),
    Family(
        "siglip",
        "any",
        "a SigLIP encoder",
        marks=(
            has("head.attention.in_proj_weight", called="the pooling head of SigLIP"),
            has("embeddings.patch_embedding.weight", called="its patches"),
            whole(lacks("language_model.*", "model.language_model.*", "model.layers.*", called="a language model")),
        ),
        under=_VISION_UNDER,
    ),
    Family(
        "flux_redux",
        "flux",
        "FLUX.1 Redux",
        marks=(
            has("redux_up.weight", called="the projection of Redux"),
            has("redux_down.weight", called="the projection of Redux"),
        ),
    ),
    Family(
        "other",
        "any",
        "an EVA-CLIP encoder",
        marks=(
            has("visual.rope.freqs_cos", "visual.blocks.0.attn.inner_attn_ln.weight", called="the layers of EVA-CLIP"),
        ),
        unusable="only PuLID looks at faces through EVA-CLIP, and this program has no PuLID",
    ),
    Family(
        "other",
        "any",
        "a DINOv2 encoder",
        marks=(
            has("encoder.layer.0.layer_scale1.lambda1", called="DINOv2's layer scale"),
            has("embeddings.cls_token", called="a class token"),
        ),
        under=("dinov2.", "model.", ""),
        unusable="no model that this program renders looks at pictures through DINOv2",
    ),
)

# T5

_T5_UNDER = (
    "text_encoders.t5xxl.transformer.",
    "text_encoders.umt5xxl.transformer.",
    "t5xxl.transformer.",
    "t5xxl.",
    "text_encoder_2.",
    "text_encoder_3.",
    "text_encoder.",
    "cond_stage_model.transformer.",
    "model.",
    "",
)
_T5_Q = "encoder.block.0.layer.0.SelfAttention.q.weight"
_T5_EACH = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"
_TOKENS = ("shared.weight", "encoder.embed_tokens.weight", "token_embd.weight", "token_embedding.weight")
_WAN_TOKENS = axis(_TOKENS, 0, 256384, 256300, called="tokens")


def _t5_use(weights: Weights) -> str:
    width = size(weights, _T5_Q, -1) or size(weights, "enc.blk.0.attn_q.weight", -1)
    if width not in (None, 4096):
        return f"its width is {width}; the models that this program knows use T5-XXL, of width 4096"
    return ""


_T5: tuple[Family, ...] = (
    Family(
        "t5_encoder",
        "any",
        "a T5 text encoder",
        marks=(
            has(_T5_Q, "encoder.block.0.layer.0.SelfAttention.q.*", called="T5's layers"),
            _NO_LORA,
            lacks(_T5_EACH, called="UMT5's biases in each layer"),
            most_of_it,
        ),
        under=_T5_UNDER,
        unusable=_t5_use,
    ),
    Family(
        "t5_encoder",
        "any",
        "a T5 text encoder",
        marks=(
            has("enc.blk.0.attn_q.weight", called="T5's layers under the names of llama.cpp"),
            lacks("enc.blk.1.attn_rel_b.weight", called="UMT5's biases in each layer"),
        ),
        unusable=_t5_use,
    ),
    Family(
        "wan_t5_encoder",
        "any",
        "a UMT5 text encoder",
        marks=(
            has(_T5_EACH, "enc.blk.1.attn_rel_b.weight", called="UMT5's biases in each layer"),
            either(_WAN_TOKENS, lambda weights: Answer(weights.find(*_TOKENS) is None)),
        ),
        under=_T5_UNDER,
    ),
    Family(
        "wan_t5_encoder",
        "any",
        "a UMT5 text encoder under Wan's names",
        marks=(
            has("blocks.0.pos_embedding.embedding.weight", called="UMT5's biases in each layer"),
            has("blocks.0.ffn.gate.0.weight", called="its gated layers"),
            has("token_embedding.weight", called="its tokens"),
        ),
    ),
    Family(
        "t5_encoder",
        "auraflow",
        "the Pile-T5 text encoder of AuraFlow",
        marks=(has(_T5_EACH, called="UMT5's biases in each layer"), axis(_TOKENS, 0, 32128, called="tokens")),
        under=_T5_UNDER,
        unusable="AuraFlow is not supported",
    ),
)

FAMILIES: tuple[Family, ...] = (*_CLIP, *_VISION, *_T5, *language_models.FAMILIES)
