"""Stable Diffusion 3 and FLUX.1: which parts such models have, under which names, and what no tensor tells.

Their files are all-in-one, or hold the transformer alone; the other parts then come from files or folders of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
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
from invokeai_daemon.models.convert.flux import Flux
from invokeai_daemon.models.convert.mmdit import MMDiT
from invokeai_daemon.models.convert.projected import LargeProjectedClip, ProjectedClip
from invokeai_daemon.models.convert.sd import UNUSED, VAE, VAE_FILES
from invokeai_daemon.models.convert.t5 import T5
from invokeai_daemon.models.header import Header
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.models.tokenizer import write_clip_tokenizer

#: A tokenizer of T5 is a folder with one of these.
T5_WORDS = ("tokenizer.json", "spiece.model")
#: Before the names of a transformer, in a file of several parts or alone.
WRAPPERS = ("model.diffusion_model.", "diffusion_model.", "")
#: All-in-one files keep the VAE below a prefix, in either layout.
FLOW_VAE = replace(VAE, layouts=tuple(layout for layout in VAE_FILES if layout.prefix))


def _encoder(name: str, loader: str, short: str, *layouts: Layout) -> Component:
    """A text encoder that lies below its short name ("clip_l") in an all-in-one file, or alone in one of its own."""
    own = tuple(
        replace(layout, prefix=f"{stem}{layout.prefix}")
        for layout in layouts
        for stem in (f"text_encoders.{short}.transformer.", f"text_encoders.{short}.", f"{short}.transformer.")
    )
    return Component(name, TRANSFORMERS_WEIGHTS, ("transformers", loader), layouts=own, apart=(*layouts, *own))


def _t5(name: str) -> Component:
    return _encoder(name, "T5EncoderModel", "t5xxl", Layout("", T5))


def _tokenizer_of_t5(name: str) -> Component:
    """Its words are in no weight file."""
    return Component(name, "", ("transformers", "T5TokenizerFast"), layouts=(), weightless=True)


def _vae(scaling: float, shift: float) -> Component:
    words = {"sample_size": 1024, "scaling_factor": scaling, "shift_factor": shift, "force_upcast": True}

    def settings(identity: Identity, header: Header) -> Mapping[str, Any]:
        return words

    return replace(FLOW_VAE, settings=settings)


SD_3_VAE = _vae(1.5305, 0.0609)
FLUX_VAE = _vae(0.3611, 0.1159)
#: What such files carry that no part needs.
_UNUSED = {**UNUSED, "text_encoders.": "a part of a text encoder that is not used"}


def _scheduler_of_sd_3(identity: Identity, header: Header) -> Mapping[str, Any]:
    return {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}


SD_3 = Family(
    base="sd-3",
    type="main",
    components=(
        Component(
            "transformer",
            DIFFUSERS_WEIGHTS,
            ("diffusers", "SD3Transformer2DModel"),
            layouts=tuple(Layout(prefix, MMDiT) for prefix in WRAPPERS),
        ),
        SD_3_VAE,
        _encoder("text_encoder", "CLIPTextModelWithProjection", "clip_l", Layout("", ProjectedClip)),
        _encoder("text_encoder_2", "CLIPTextModelWithProjection", "clip_g", Layout("", LargeProjectedClip)),
        # Without them it renders as well, and follows long prompts less.
        replace(_t5("text_encoder_3"), optional=True),
        replace(_tokenizer_of_t5("tokenizer_3"), optional=True),
    ),
    pipelines=dict.fromkeys(("normal", "medium", "large"), "StableDiffusion3Pipeline"),
    others={
        "tokenizer": ("transformers", "CLIPTokenizer"),
        "tokenizer_2": ("transformers", "CLIPTokenizer"),
        "feature_extractor": ABSENT,
        "image_encoder": ABSENT,
    },
    scheduler=_scheduler_of_sd_3,
    writers={"tokenizer": write_clip_tokenizer, "tokenizer_2": partial(write_clip_tokenizer, padding="!")},
    unused=_UNUSED,
)


def _scheduler_of_flux(identity: Identity, header: Header) -> Mapping[str, Any]:
    """Dev shifts its timesteps the more the larger a picture is; schnell does not."""
    depends_on_size = identity.variant != "schnell"
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "shift": 3.0 if depends_on_size else 1.0,
        "use_dynamic_shifting": depends_on_size,
        "base_shift": 0.5,
        "max_shift": 1.15,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
    }


FLUX = Family(
    base="flux",
    type="main",
    components=(
        Component(
            "transformer",
            DIFFUSERS_WEIGHTS,
            ("diffusers", "FluxTransformer2DModel"),
            layouts=tuple(Layout(prefix, Flux) for prefix in WRAPPERS),
        ),
        FLUX_VAE,
        _encoder(
            "text_encoder", "CLIPTextModel", "clip_l", Layout("text_model.", Clip), Layout("clip_l.text_model.", Clip)
        ),
        _t5("text_encoder_2"),
        _tokenizer_of_t5("tokenizer_2"),
    ),
    pipelines={
        "normal": "FluxPipeline",
        "dev": "FluxPipeline",
        "schnell": "FluxPipeline",
        "dev_fill": "FluxFillPipeline",
    },
    others={
        "tokenizer": ("transformers", "CLIPTokenizer"),
        "feature_extractor": ABSENT,
        "image_encoder": ABSENT,
    },
    scheduler=_scheduler_of_flux,
    writers={"tokenizer": write_clip_tokenizer},
    unused=_UNUSED,
)

#: The VAEs alone, as a folder.
FLOW_VAES = tuple(
    Family(base, "vae", (replace(vae, layouts=VAE_FILES, alone=True),), unused=UNUSED)
    for base, vae in (("sd-3", SD_3_VAE), ("flux", FLUX_VAE))
)
