"""Families: which text encoders and which denoiser the models of a base have, and what the denoiser is told. A table.

Read when a pipeline is loaded. A new family is a row here, with a way to be told in `conditioning.py` and a denoiser in
`denoisers.py` where it has its own; the loop does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from invokeai_daemon.engine.conditioning import Conditioning, of_texts, of_texts_and_score, of_texts_and_size
from invokeai_daemon.engine.denoisers import Denoiser, UNet
from invokeai_daemon.engine.prompts import Encoded
from invokeai_daemon.job.plan import Image

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


@dataclass(frozen=True)
class Family:
    """What the main models of a base have in common."""

    text_encoders: tuple[TextEncoder, ...]
    tell: Tell
    denoiser: type[Denoiser] = UNet
    #: Its VAEs overflow in float16 unless their config says `"force_upcast": false`.
    has_fragile_vae: bool = False


SD = Family((TextEncoder("text_encoder", "tokenizer", CLIPTextModel),), of_texts)
_LARGE = TextEncoder("text_encoder_2", "tokenizer_2", CLIPTextModelWithProjection, is_penultimate=True)
SDXL = Family(
    (TextEncoder("text_encoder", "tokenizer", CLIPTextModel, is_penultimate=True), _LARGE),
    of_texts_and_size,
    has_fragile_vae=True,
)
SDXL_REFINER = Family((_LARGE,), of_texts_and_score, has_fragile_vae=True)

#: By InvokeAI's word for the base.
FAMILIES: Mapping[str, Family] = MappingProxyType({"sd-1": SD, "sd-2": SD, "sdxl": SDXL, "sdxl-refiner": SDXL_REFINER})
