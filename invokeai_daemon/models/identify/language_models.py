"""Language models: those that encode the prompts of newer image models, and those that only write.

A part of the room `encoders`. Widths, numbers of tokens and what only one family has (norms, biases) tell them apart.
"""

from __future__ import annotations

from invokeai_daemon.models.identify.rules import first, most_of_it, size
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
    width, tokens = size(weights, first(weights, _WIDTH), 0), size(weights, first(weights, _EMBEDDED), 0)
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


NO_PROMPTS = "this program does not let a language model write or describe. You may delete it or leave it where it is"
_PROJECTED = has("multi_modal_projector.*", "model.multi_modal_projector.*", called="a projection of pictures")
_LLAVA_QWENS = (
    "language_model.model.layers.0.self_attn.q_proj.bias",
    "model.language_model.layers.0.self_attn.q_proj.bias",
)
_LLAVA_QWEN = has(*_LLAVA_QWENS, called="the biases of Qwen")

FAMILIES: tuple[Family, ...] = (
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
        unusable=NO_PROMPTS,
    ),
    Family(
        "llava_onevision",
        "any",
        "LLaVA OneVision",
        marks=(_PROJECTED, _LLAVA_QWEN, has("image_newline", "model.image_newline", called="a separator of rows")),
        unusable=NO_PROMPTS,
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
        unusable=NO_PROMPTS,
    ),
)
