"""Parts that come alone: VAEs and ControlNets of SD-1, SD-2 and SDXL. The part is the whole folder."""

from __future__ import annotations

from dataclasses import replace

from invokeai_daemon.models.convert.controlnet import ControlNet, DiffusersControlNet
from invokeai_daemon.models.convert.family import DIFFUSERS_WEIGHTS, Component, Family, Layout
from invokeai_daemon.models.convert.sd import UNUSED, VAE, VAE_FILES
from invokeai_daemon.models.convert.sdxl import XL_VAE

#: What models that share the names of a ControlNet have besides: such a file is none.
STRANGERS = ("task_embedding", "control_type_proj.", "spatial_ch_projs.", "lora_controlnet")
CONTROLNET = Component(
    "controlnet",
    DIFFUSERS_WEIGHTS,
    ("diffusers", "ControlNetModel"),
    layouts=tuple(
        Layout(prefix, part, unless=STRANGERS)
        for prefix in ("control_model.", "")
        for part in (ControlNet, DiffusersControlNet)
    ),
    alone=True,
)
#: The prefix, and what of the file is not meant to become part of it.
_LOSS = {**UNUSED, "loss.": "the VAE's discriminator", "model_ema.": "an averaged copy"}

VAES = tuple(
    Family(base, "vae", (replace(vae, layouts=VAE_FILES, alone=True),), unused=_LOSS)
    for base, vae in (("sd-1", VAE), ("sd-2", VAE), ("sdxl", XL_VAE))
)
CONTROLNETS = tuple(Family(base, "controlnet", (CONTROLNET,)) for base in ("sd-1", "sd-2", "sdxl"))
