"""Families: which parts a model consists of, and the folder diffusers wants them in. The table new families go into."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from invokeai_daemon.models.convert.clip import Clip
from invokeai_daemon.models.convert.layout import Part
from invokeai_daemon.models.convert.unet import UNet
from invokeai_daemon.models.convert.vae import Vae
from invokeai_daemon.models.identity import Identity

#: dtypes that torch loads as weights, with bytes per value.
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True)
class Component:
    """One weight file of the folder."""

    folder: str
    file: str
    part: type[Part]
    #: Library and class that load it, as model_index.json says it.
    loader: tuple[str, str]


@dataclass(frozen=True)
class Family:
    base: str
    type: str
    components: tuple[Component, ...]
    #: diffusers' pipeline class of each variant.
    pipelines: Mapping[str, str]
    #: Entries of model_index.json that have no weights here.
    others: Mapping[str, tuple[str | None, str | None]]
    scheduler: Mapping[str, Any]
    #: Prefixes of tensors that such files carry and no part needs, with the word for them.
    unused: Mapping[str, str]

    def model_index(self, identity: Identity) -> dict[str, Any]:
        components = {component.folder: list(component.loader) for component in self.components}
        others = {name: list(loader) for name, loader in self.others.items()}
        return {
            "_class_name": self.pipelines[identity.variant or "normal"],
            "_diffusers_version": diffusers_version(),
            **dict(sorted((components | others).items())),
            "requires_safety_checker": False,
        }

    def scheduler_config(self, identity: Identity) -> dict[str, Any]:
        return {
            "_class_name": self.others["scheduler"][1],
            "_diffusers_version": diffusers_version(),
            **self.scheduler,
            "prediction_type": identity.prediction_type or "epsilon",
        }


def diffusers_version() -> str:
    """The version the configs are written for, read without importing diffusers."""
    return importlib.metadata.version("diffusers")


SD1 = Family(
    base="sd-1",
    type="main",
    components=(
        Component("unet", "diffusion_pytorch_model.safetensors", UNet, ("diffusers", "UNet2DConditionModel")),
        Component("vae", "diffusion_pytorch_model.safetensors", Vae, ("diffusers", "AutoencoderKL")),
        Component("text_encoder", "model.safetensors", Clip, ("transformers", "CLIPTextModel")),
    ),
    pipelines={"normal": "StableDiffusionPipeline", "inpaint": "StableDiffusionInpaintPipeline"},
    others={
        "scheduler": ("diffusers", "PNDMScheduler"),
        "tokenizer": ("transformers", "CLIPTokenizer"),
        "safety_checker": (None, None),
        "feature_extractor": (None, None),
        "image_encoder": (None, None),
    },
    scheduler={
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "trained_betas": None,
        "skip_prk_steps": True,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "clip_sample": False,
    },
    unused={
        "model_ema.": "an averaged copy",
        "first_stage_model.loss.": "the VAE's discriminator",
        "first_stage_model.model_ema.": "an averaged copy of the VAE",
    },
)

FAMILIES = (SD1,)


def family_of(identity: Identity) -> Family | None:
    """The family that converts this model; None when it is not converted."""
    for family in FAMILIES:
        if (family.base, family.type) == (identity.base, identity.type):
            return family
    return None
