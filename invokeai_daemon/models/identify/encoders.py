"""Encoders: CLIP, T5 and other encoders of texts and pictures, alone in a file, and language models.

Widths, depths and what only one family has (norms, biases) tell them apart. Full models that hold both towers of CLIP
are encoders of texts first, as InvokeAI has it; a folder or a sidecar may say clip_vision.
"""

from __future__ import annotations

from collections.abc import Iterable

from invokeai_daemon.models.identify.rules import most_of_it, note, size
from invokeai_daemon.models.identify.table import (
    Answer,
    Choice,
    Family,
    Rule,
    axis,
    both,
    either,
    has,
    lacks,
    metadata,
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
    width = size(weights, _first(weights, _TEXT_WIDTH), -1)
    if width == 1024:
        return "the text encoder of SD-2 (OpenCLIP ViT-H) is used only as a part of a model. Drop a whole SD-2 model"
    if width not in (768, 1280):
        return f"its width is {width}; the models that this program knows use CLIP of width 768 and 1280"
    return ""


def _first(weights: Weights, patterns: Iterable[str]) -> str:
    return next((pattern for pattern in patterns if weights.find(pattern)), "")


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
    width = size(weights, _first(weights, _PATCHES), 0)
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

# Language models

_LLM_UNDER = ("model.language_model.", "language_model.model.", "text_encoder.model.", "model.", "")
_Q = ("layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight", "layers.0.self_attn.q_proj.*")
_NORMED_Q = ("layers.0.self_attn.q_norm.weight", "blk.0.attn_q_norm.weight")
_BIAS = ("layers.0.self_attn.q_proj.bias", "blk.0.attn_q.bias")
_AFTER = (
    "layers.0.pre_feedforward_layernorm.weight",
    "blk.0.post_attention_norm.weight",
    "blk.0.post_ffw_norm.weight",
)
_SEES = ("visual.*", "model.visual.*", "vision_tower.*", "model.vision_tower.*", "v.blk.0.*", "vision_model.*")
_DEEPSTACK = ("visual.deepstack_merger_list.*", "model.visual.deepstack_merger_list.*")
_LM = has(*_Q, called="the layers of a language model")
_EMBEDDED = ("embed_tokens.weight", "token_embd.weight")
_WIDTH = ("layers.0.input_layernorm.weight", "blk.0.attn_norm.weight")


def _width(*widths: int) -> Rule:
    return axis(_WIDTH, 0, *widths, called="width")


def _layers(weights: Weights) -> int:
    return weights.count("layers.") or weights.count("blk.")


def _deep(*numbers: range) -> Rule:
    def rule(weights: Weights) -> Answer:
        count = weights.ask(_layers)
        return Answer(any(count in each for each in numbers), f"it has {count} layers")

    return rule


def _no_encoder(weights: Weights) -> Answer:
    """Its measures are not those of an encoder of an image model. (A rule.)"""
    width, tokens = size(weights, _first(weights, _WIDTH), 0), size(weights, _first(weights, _EMBEDDED), 0)
    qwen = bool(weights.find(*_BIAS)) and (width, tokens) == (3584, 152064)
    return Answer(not qwen and (width, tokens) != (5120, 131072), f"its width is {width}")


_PLAIN_TEXT = whole(
    lacks(*_SEES, "multi_modal_projector.*", "model.multi_modal_projector.*", called="a tower for pictures")
)
_QWEN3_VARIANT = Choice(
    (
        ("qwen3_06b", _width(1024)),
        ("qwen3_4b", _width(2560)),
        ("qwen3_8b", _width(4096)),
    )
)
_MISTRAL_VARIANT = Choice((("mistral3_24b", _deep(range(40, 41))), ("cow_mistral3_small", _deep(range(20, 40)))))


def _qwen3_use(weights: Weights) -> str:
    known = _width(1024, 2560, 4096)(weights)
    return "" if known.holds else f"{known.says}; image models use the Qwen3 of 0.6, 4 and 8 billion weights"


_NO_PROMPTS = "this program does not let a language model write or describe. You may delete it or leave it where it is"
_PROJECTED = has("multi_modal_projector.*", "model.multi_modal_projector.*", called="a projection of pictures")
_LLAVA_QWENS = (
    "language_model.model.layers.0.self_attn.q_proj.bias",
    "model.language_model.layers.0.self_attn.q_proj.bias",
)
_LLAVA_QWEN = has(*_LLAVA_QWENS, called="the biases of Qwen")

_LANGUAGE_MODELS: tuple[Family, ...] = (
    Family(
        "qwen3_encoder",
        "any",
        "a Qwen3 text encoder",
        marks=(
            _LM,
            has(*_NORMED_Q, called="Qwen3's norms of queries"),
            lacks(*_AFTER, called="Gemma's norms"),
            _PLAIN_TEXT,
            most_of_it,
        ),
        under=_LLM_UNDER,
        variant=_QWEN3_VARIANT,
        unusable=_qwen3_use,
    ),
    Family(
        "qwen3_vl_encoder",
        "any",
        "a Qwen3-VL encoder",
        marks=(
            _LM,
            has(*_NORMED_Q, called="Qwen3's norms of queries"),
            whole(has(*_DEEPSTACK, called="the tower for pictures of Qwen3-VL")),
        ),
        under=_LLM_UNDER,
    ),
    Family(
        "qwen_vl_encoder",
        "any",
        "a Qwen2.5-VL encoder",
        marks=(
            _LM,
            has(*_BIAS, called="Qwen2's biases"),
            lacks(*_NORMED_Q, called="Qwen3's norms of queries"),
            either(
                whole(has("visual.blocks.0.*", "model.visual.blocks.0.*", called="a tower for pictures")),
                both(_width(3584), axis(_EMBEDDED, 0, 152064, called="tokens")),
                metadata("general.architecture", "qwen2vl"),
            ),
        ),
        under=_LLM_UNDER,
    ),
    Family(
        "gemma2_encoder",
        "any",
        "a Gemma 2 text encoder",
        marks=(_LM, has(*_AFTER, called="Gemma's norms"), lacks(*_NORMED_Q, called="the norms of queries of Gemma 3")),
        rules=(_PLAIN_TEXT,),
        under=_LLM_UNDER,
    ),
    Family(
        "text_llm",
        "any",
        "a Gemma 3 language model",
        marks=(
            has(*_NORMED_Q, called="norms of queries"),
            has(*_AFTER, called="Gemma's norms"),
        ),
        under=_LLM_UNDER,
        unusable="no image model that this program renders reads texts through Gemma 3",
    ),
    Family(
        "mistral_encoder",
        "any",
        "a Mistral Small text encoder",
        marks=(
            _LM,
            _width(5120),
            lacks(*_BIAS, *_NORMED_Q, *_AFTER, called="what Mistral has not"),
            axis(_EMBEDDED, 0, 131072, called="tokens"),
        ),
        under=_LLM_UNDER,
        variant=_MISTRAL_VARIANT,
    ),
    Family(
        "text_llm",
        "any",
        "a language model",
        marks=(
            _LM,
            lacks(*_NORMED_Q, *_AFTER, called="the norms of an encoder of images' prompts"),
            _PLAIN_TEXT,
            most_of_it,
        ),
        rules=(_no_encoder,),
        under=_LLM_UNDER,
        unusable=_NO_PROMPTS,
    ),
    Family(
        "llava_onevision",
        "any",
        "LLaVA OneVision",
        marks=(_PROJECTED, _LLAVA_QWEN, has("image_newline", "model.image_newline", called="a separator of rows")),
        unusable=_NO_PROMPTS,
    ),
    Family(
        "text_llm",
        "any",
        "a LLaVA language model",
        marks=(
            _PROJECTED,
            has("vision_tower.*", "model.vision_tower.*", called="a tower for pictures"),
            lacks(
                "vision_tower.patch_conv.weight",
                "model.vision_tower.patch_conv.weight",
                "language_model.model.layers.0.pre_feedforward_layernorm.weight",
                "model.language_model.layers.0.pre_feedforward_layernorm.weight",
                *_LLAVA_QWENS,
                called="what Mistral, Gemma or Qwen has",
            ),
        ),
        unusable="of language models that look at pictures this program names only LLaVA OneVision and Qwen-VL",
    ),
    Family(
        "text_llm",
        "kolors",
        "the ChatGLM text encoder of Kolors",
        marks=(
            has(
                "transformer.encoder.layers.0.self_attention.query_key_value.weight",
                "encoder.layers.0.self_attention.query_key_value.weight",
                called="ChatGLM's layers",
            ),
        ),
        unusable="Kolors is not supported",
    ),
    Family(
        "prompt_enhancer",
        "any",
        "a GPT-2 language model, as prompt enhancers are",
        marks=(has("h.0.attn.c_attn.weight", called="GPT-2's layers"), has("wte.weight", called="its tokens")),
        under=("transformer.", ""),
        unusable=_NO_PROMPTS,
    ),
)

FAMILIES: tuple[Family, ...] = (*_CLIP, *_VISION, *_T5, *_LANGUAGE_MODELS)
