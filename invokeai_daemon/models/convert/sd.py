"""Stable Diffusion 1 and 2: which parts such checkpoints have, under which names, and what no tensor tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from invokeai_daemon.models.convert.clip import Clip, OpenClip
from invokeai_daemon.models.convert.family import (
    ABSENT,
    DIFFUSERS_WEIGHTS,
    TRANSFORMERS_WEIGHTS,
    Component,
    Family,
    Layout,
)
from invokeai_daemon.models.convert.schedulers import ddim, pndm
from invokeai_daemon.models.convert.unet import UNet
from invokeai_daemon.models.convert.vae import DiffusersVae, Vae
from invokeai_daemon.models.header import Header
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.models.tokenizer import write_clip_tokenizer

#: How a VAE lies in a file of its own: with or without its prefix, in the original layout or diffusers'.
VAE_FILES = tuple(Layout(prefix, part) for prefix in ("first_stage_model.", "vae.", "") for part in (Vae, DiffusersVae))
UNET = Component(
    "unet",
    DIFFUSERS_WEIGHTS,
    ("diffusers", "UNet2DConditionModel"),
    layouts=(Layout("model.diffusion_model.", UNet),),
    averaged="model_ema.diffusion_model",
)
VAE = Component(
    "vae",
    DIFFUSERS_WEIGHTS,
    ("diffusers", "AutoencoderKL"),
    layouts=(Layout("first_stage_model.", Vae),),
    apart=VAE_FILES,
)
CLIP = Component(
    "text_encoder",
    TRANSFORMERS_WEIGHTS,
    ("transformers", "CLIPTextModel"),
    layouts=(
        Layout("cond_stage_model.transformer.text_model.", Clip),
        # Some early trainers dropped the inner name.
        Layout("cond_stage_model.transformer.", Clip),
    ),
)
UNUSED = {
    "model_ema.": "an averaged copy",
    "first_stage_model.loss.": "the VAE's discriminator",
    "first_stage_model.model_ema.": "an averaged copy of the VAE",
}
OTHERS = {
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "safety_checker": ABSENT,
    "feature_extractor": ABSENT,
    "image_encoder": ABSENT,
}
WORDS: Mapping[str, Mapping[str, Any]] = {"": {"requires_safety_checker": False}}

SD1 = Family(
    base="sd-1",
    type="main",
    components=(UNET, VAE, CLIP),
    pipelines={
        "normal": "StableDiffusionPipeline",
        "inpaint": "StableDiffusionInpaintPipeline",
        "edit": "StableDiffusionInstructPix2PixPipeline",
    },
    others=OTHERS,
    words=WORDS,
    scheduler=pndm,
    writers={"tokenizer": write_clip_tokenizer},
    unused=UNUSED,
)


def _unet_of_sd_2(identity: Identity, header: Header) -> Mapping[str, Any]:
    """What predicts v was trained on 768 pixels, and overflows in half precision unless its attention is upcast."""
    is_large = identity.prediction_type == "v_prediction"
    return {"sample_size": 96 if is_large else 64, **({"upcast_attention": True} if is_large else {})}


def _vae_of_sd_2(identity: Identity, header: Header) -> Mapping[str, Any]:
    return {"sample_size": 768 if identity.prediction_type == "v_prediction" else 512}


#: MiDaS' estimator lies in the file under names of its own, for which there is no table. The model can be used with
#: depth maps that are given to it, or with the folders of another copy of it.
_DEPTH = "its depth estimator, which is not converted: depth maps must be given"
DEPTH_ESTIMATOR = Component(
    "depth_estimator",
    TRANSFORMERS_WEIGHTS,
    ("transformers", "DPTForDepthEstimation"),
    layouts=(),
    optional=True,
    variants=("depth",),
)
DEPTH_EXTRACTOR = replace(
    DEPTH_ESTIMATOR, name="feature_extractor", file="", loader=("transformers", "DPTImageProcessor"), weightless=True
)


SD2 = Family(
    base="sd-2",
    type="main",
    components=(
        replace(UNET, settings=_unet_of_sd_2),
        replace(VAE, settings=_vae_of_sd_2),
        replace(CLIP, layouts=(Layout("cond_stage_model.model.", OpenClip), *CLIP.layouts)),
        DEPTH_ESTIMATOR,
        DEPTH_EXTRACTOR,
    ),
    pipelines={
        "normal": "StableDiffusionPipeline",
        "inpaint": "StableDiffusionInpaintPipeline",
        "depth": "StableDiffusionDepth2ImgPipeline",
    },
    others=OTHERS,
    words=WORDS,
    scheduler=ddim,
    writers={"tokenizer": partial(write_clip_tokenizer, padding="!")},
    unused={
        **UNUSED,
        "depth_model.": _DEPTH,
        # The last layer of its text encoder, and what comes after it.
        "cond_stage_model.model.transformer.resblocks.23.": "",
        "cond_stage_model.model.text_projection": "",
    },
)
