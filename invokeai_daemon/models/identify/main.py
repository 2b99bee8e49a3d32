"""Main models with a UNet: Stable Diffusion 1 and 2, SDXL and its refiner, and their relatives, as rows."""

from __future__ import annotations

from collections.abc import Iterable

from invokeai_daemon.models.identify.table import (
    Answer,
    Choice,
    Family,
    Rule,
    axis,
    either,
    has,
    lacks,
    metadata,
    quietly,
    rank,
    whole,
)
from invokeai_daemon.models.identify.weights import Weights
from invokeai_daemon.models.identity import Need

#: What a main model may have merged into it or carry along.
GOES_BEFORE = ("lora", "control_lora", "vae", "clip_embed", "t5_encoder", "clip_vision", "embedding", "text_llm")

_UNDER = ("model.diffusion_model.", "diffusion_model.", "")
_UNET = has("input_blocks.*", called="a UNet in the layout of the original Stable Diffusion")
_NO_CONTROL = lacks("input_hint_block.*", "zero_convs.*", called="the control branch of a ControlNet")
_MARKS = (_UNET, _NO_CONTROL)

_TO_K = ("input_blocks.*.attn2.to_k.weight", "middle_block.*.attn2.to_k.weight")
_FIRST = "input_blocks.0.0.weight"
_LABEL = lacks("label_emb.*", called="an input for a size vector")
_NO_CONDITIONER = whole(lacks("conditioner.embedders.*", called="the text encoders of SDXL"))


def _context(*widths: int) -> Rule:
    return axis(_TO_K, 1, *widths, called="context width")


def _channels(*numbers: int) -> Rule:
    return axis(_FIRST, 1, *numbers, called="input channels")


def _variants(**numbers: int) -> Choice:
    return Choice(tuple((variant, quietly(_channels(number))) for variant, number in numbers.items()))


_TOKENS = (
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    "cond_stage_model.transformer.embeddings.token_embedding.weight",
)


def _own_width(weights: Weights) -> Answer:
    """SD-1's UNet is as wide as its own CLIP encoder: 768 for the published models, but any pair that agrees is one."""
    context = weights.find(*_TO_K)
    if context is None or len(context.shape) < 2:
        return Answer(False, "its context width was not found")
    width, seen = context.shape[1], f"{context.name} has context width {context.shape[1]}"
    text = weights.whole.find(*_TOKENS)
    if text is not None and len(text.shape) == 2:
        return Answer(text.shape[1] == width, f"{seen}, and {text.name} has width {text.shape[1]}")
    if width == 768:
        return Answer(True, f"{seen} (and it has no text encoder)")
    return Answer(False, f"{seen}, not 768 (and it has no text encoder)")


_OPEN_CLIP = whole(lacks("cond_stage_model.model.*", called="an OpenCLIP text encoder"))

_SAYS_V = either(
    whole(has("v_pred", called="the marker v_pred, which says v_prediction")),
    metadata("modelspec.prediction_type", "v", "v_prediction"),
)
_SAYS_EPSILON = metadata("modelspec.prediction_type", "epsilon", "eps")


def _prediction(default: str) -> Choice:
    return Choice((("v_prediction", _SAYS_V), ("epsilon", _SAYS_EPSILON)), default)


def _parts_of_sd_1(weights: Weights) -> Iterable[Need]:
    return ()


SD_1 = Family(
    "main",
    "sd-1",
    "a Stable Diffusion 1 checkpoint",
    marks=_MARKS,
    rules=(
        quietly(_NO_CONDITIONER),
        _OPEN_CLIP,
        _LABEL,
        rank("input_blocks.*.proj_in.weight", 4, called="a convolution"),
        _own_width,
        _channels(4, 9, 8),
    ),
    under=_UNDER,
    variant=_variants(normal=4, inpaint=9, edit=8),
    prediction_type=_prediction("epsilon"),
    needs=_parts_of_sd_1,
    before=GOES_BEFORE,
)
SD_2 = Family(
    "main",
    "sd-2",
    "a Stable Diffusion 2 checkpoint",
    marks=_MARKS,
    rules=(quietly(_NO_CONDITIONER), _LABEL, _context(1024), _channels(4, 9, 5)),
    under=_UNDER,
    variant=_variants(normal=4, inpaint=9, depth=5),
    prediction_type=_prediction("v_prediction"),
    before=GOES_BEFORE,
)
SDXL = Family(
    "main",
    "sdxl",
    "an SDXL checkpoint",
    marks=_MARKS,
    rules=(_context(2048), _channels(4, 9, 8)),
    under=_UNDER,
    variant=_variants(normal=4, inpaint=9, edit=8),
    prediction_type=_prediction("epsilon"),
    before=GOES_BEFORE,
)
SDXL_REFINER = Family(
    "main",
    "sdxl-refiner",
    "an SDXL refiner checkpoint",
    marks=_MARKS,
    rules=(_context(1280), _channels(4)),
    under=_UNDER,
    variant=_variants(normal=4),
    prediction_type=_prediction("epsilon"),
    before=GOES_BEFORE,
)
SD_3 = Family(
    "main",
    "sd-3",
    "a Stable Diffusion 3 checkpoint",
    marks=(has("joint_blocks.*", called="the transformer blocks of SD 3"),),
    under=_UNDER,
    prediction_type=Choice((), "flow"),
    before=GOES_BEFORE,
)
FLUX = Family(
    "main",
    "flux",
    "a FLUX checkpoint",
    marks=(
        has("double_blocks.0.img_attn.norm.key_norm.*", called="the transformer blocks of FLUX"),
        lacks("controlnet_blocks.*", called="the control branch of a ControlNet"),
    ),
    under=_UNDER,
    before=GOES_BEFORE,
)

FAMILIES: tuple[Family, ...] = (SD_1, SD_2, SDXL, SDXL_REFINER, SD_3, FLUX)
