"""Stable Diffusion 1: which parts such a checkpoint has and under which names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invokeai_daemon.models.convert.clip import Clip
from invokeai_daemon.models.convert.family import (
    ABSENT,
    DIFFUSERS_WEIGHTS,
    TRANSFORMERS_WEIGHTS,
    Component,
    Family,
    Layout,
)
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
#: The noise that all of them were trained with.
NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "trained_betas": None,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "clip_sample": False,
}


def pndm(identity: Identity, header: Header) -> Mapping[str, Any]:
    return {
        "_class_name": "PNDMScheduler",
        **NOISE,
        "skip_prk_steps": True,
        "prediction_type": identity.prediction_type or "epsilon",
    }


SD1 = Family(
    base="sd-1",
    type="main",
    components=(UNET, VAE, CLIP),
    pipelines={
        "normal": "StableDiffusionPipeline",
        "inpaint": "StableDiffusionInpaintPipeline",
    },
    others={
        "scheduler": ("diffusers", "PNDMScheduler"),
        "tokenizer": ("transformers", "CLIPTokenizer"),
        "safety_checker": ABSENT,
        "feature_extractor": ABSENT,
        "image_encoder": ABSENT,
    },
    words={"": {"requires_safety_checker": False}},
    scheduler=pndm,
    writers={"tokenizer": write_clip_tokenizer},
    unused=UNUSED,
)
