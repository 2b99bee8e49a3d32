"""Families: which text encoders and which denoiser the models of a base have, and what the denoiser is told. A table.

Read when a pipeline is loaded. A new family is a row here, with a way to be told in `conditioning.py` and a denoiser in
`denoisers.py` where it has its own; the loop does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from transformers import AutoTokenizer, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel

from invokeai_daemon.engine.conditioning import (
    Conditioning,
    of_texts,
    of_texts_and_guidance,
    of_texts_and_score,
    of_texts_and_size,
    of_texts_and_vector,
)
from invokeai_daemon.engine.denoisers import Denoiser, Flux, MMDiT, UNet
from invokeai_daemon.engine.scheduling.flow import Levels, evenly
from invokeai_daemon.engine.texts.prompts import Encoded
from invokeai_daemon.engine.texts.t5 import Join, after_clip, beside_clip
from invokeai_daemon.job.plan import Image, ModelRef

#: From the image, its encoded texts (the negative prompt's first, unless guidance is off) and model_index.json.
Tell = Callable[[Image, Sequence[Encoded], Mapping[str, Any]], Conditioning]


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder of a family, by its folders in the pipeline's."""

    folder: str
    tokenizer: str
    #: transformers' classes.
    kind: Any
    tokenizer_kind: Any = CLIPTokenizer
    is_penultimate: bool = False
    #: Only its vector of the whole text is of use.
    is_pooled: bool = False
    #: For a T5, how many tokens it reads of a text; None for CLIP.
    length: int | None = None


@dataclass(frozen=True)
class Family:
    """What the main models of a base have in common."""

    text_encoders: tuple[TextEncoder, ...]
    tell: Tell
    denoiser: type[Denoiser] = UNet
    #: Its VAEs overflow in float16 unless their config says `"force_upcast": false`.
    has_fragile_vae: bool = False
    #: Where a T5 is among the text encoders, last, how its words stand with the others'.
    join: Join | None = None
    #: It renders without its T5.
    is_t5_optional: bool = False
    #: The noise levels of its runs; None as its schedulers have them.
    levels: Levels | None = None
    #: What its large models compute with on an accelerator, when nobody says.
    accelerated: torch.dtype = torch.float16


SD = Family((TextEncoder("text_encoder", "tokenizer", CLIPTextModel),), of_texts)
_LARGE = TextEncoder("text_encoder_2", "tokenizer_2", CLIPTextModelWithProjection, is_penultimate=True)
SDXL = Family(
    (TextEncoder("text_encoder", "tokenizer", CLIPTextModel, is_penultimate=True), _LARGE),
    of_texts_and_size,
    has_fragile_vae=True,
)
SDXL_REFINER = Family((_LARGE,), of_texts_and_score, has_fragile_vae=True)
SD_3 = Family(
    (
        TextEncoder("text_encoder", "tokenizer", CLIPTextModelWithProjection, is_penultimate=True),
        _LARGE,
        TextEncoder("text_encoder_3", "tokenizer_3", T5EncoderModel, AutoTokenizer, length=256),
    ),
    of_texts_and_vector,
    MMDiT,
    has_fragile_vae=True,
    join=beside_clip,
    is_t5_optional=True,
    accelerated=torch.bfloat16,
)
_VECTOR = TextEncoder("text_encoder", "tokenizer", CLIPTextModel, is_pooled=True)
_T5 = TextEncoder("text_encoder_2", "tokenizer_2", T5EncoderModel, AutoTokenizer, length=512)
FLUX = Family(
    (_VECTOR, _T5),
    of_texts_and_guidance,
    Flux,
    has_fragile_vae=True,
    join=after_clip,
    levels=evenly,
    accelerated=torch.bfloat16,
)
FLUX_SCHNELL = replace(FLUX, text_encoders=(_VECTOR, replace(_T5, length=256)))

#: By InvokeAI's word for the base.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {"sd-1": SD, "sd-2": SD, "sdxl": SDXL, "sdxl-refiner": SDXL_REFINER, "sd-3": SD_3, "flux": FLUX}
)
#: Variants of a base that differ.
VARIANTS: Mapping[tuple[str, str | None], Family] = MappingProxyType({("flux", "schnell"): FLUX_SCHNELL})


def family_of(model: ModelRef) -> Family | None:
    """The family of a model; None when it cannot be rendered with."""
    return VARIANTS.get((model.base, model.variant)) or FAMILIES.get(model.base)
