"""SDXL and its refiner: which parts such checkpoints have, under which names, and what no tensor tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from invokeai_daemon.models.convert.clip import Clip, OpenClipProjected
from invokeai_daemon.models.convert.family import ABSENT, TRANSFORMERS_WEIGHTS, Component, Family, Layout
from invokeai_daemon.models.convert.schedulers import euler
from invokeai_daemon.models.convert.sd import CLIP, UNET, UNUSED, VAE
from invokeai_daemon.models.convert.unet import XlUNet
from invokeai_daemon.models.header import Header
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.models.tokenizer import write_clip_tokenizer


def unet_words(identity: Identity, header: Header) -> Mapping[str, Any]:
    return {"sample_size": 128}


def vae_words(identity: Identity, header: Header) -> Mapping[str, Any]:
    """Its decoder overflows in half precision."""
    return {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True}


XL_UNET = replace(UNET, layouts=(Layout("model.diffusion_model.", XlUNet),), settings=unet_words)
XL_VAE = replace(VAE, settings=vae_words)
SMALL_CLIP = replace(
    CLIP,
    layouts=(
        Layout("conditioner.embedders.0.transformer.text_model.", Clip),
        Layout("conditioner.embedders.0.transformer.", Clip),
    ),
)
LARGE_CLIP = Component(
    "text_encoder_2",
    TRANSFORMERS_WEIGHTS,
    ("transformers", "CLIPTextModelWithProjection"),
    layouts=(Layout("conditioner.embedders.1.model.", OpenClipProjected),),
)
#: The large text encoder's tokenizer fills prompts up with exclamation marks.
LARGE_TOKENIZER = partial(write_clip_tokenizer, padding="!")
OTHERS = {
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "tokenizer_2": ("transformers", "CLIPTokenizer"),
    "feature_extractor": ABSENT,
    "image_encoder": ABSENT,
}

SDXL = Family(
    base="sdxl",
    type="main",
    components=(XL_UNET, XL_VAE, SMALL_CLIP, LARGE_CLIP),
    pipelines={
        "normal": "StableDiffusionXLPipeline",
        "inpaint": "StableDiffusionXLInpaintPipeline",
        "edit": "StableDiffusionXLInstructPix2PixPipeline",
    },
    others=OTHERS,
    words={"": {"force_zeros_for_empty_prompt": True}},
    scheduler=euler,
    writers={"tokenizer": write_clip_tokenizer, "tokenizer_2": LARGE_TOKENIZER},
    unused=UNUSED,
)

REFINER = Family(
    base="sdxl-refiner",
    type="main",
    components=(
        XL_UNET,
        XL_VAE,
        replace(LARGE_CLIP, layouts=(Layout("conditioner.embedders.0.model.", OpenClipProjected),)),
    ),
    pipelines={"normal": "StableDiffusionXLImg2ImgPipeline"},
    others={**OTHERS, "tokenizer": ABSENT, "text_encoder": ABSENT},
    words={"": {"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True}},
    scheduler=euler,
    writers={"tokenizer_2": LARGE_TOKENIZER},
    unused=UNUSED,
)
