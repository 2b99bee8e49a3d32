"""Scheduler configs of the Stable Diffusion families: how their noise was made. Called by the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invokeai_daemon.models.header import Header
from invokeai_daemon.models.identity import Identity

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
#: What trainers leave in a file whose noise ends in nothing but noise.
ZERO_SNR = "ztsnr"


def pndm(identity: Identity, header: Header) -> Mapping[str, Any]:
    """SD-1. What ends in pure noise needs a scheduler that can start there."""
    if _ends_in_noise(header):
        return ddim(identity, header)
    return {"_class_name": "PNDMScheduler", **NOISE, "skip_prk_steps": True, **_prediction(identity)}


def ddim(identity: Identity, header: Header) -> Mapping[str, Any]:
    """SD-2."""
    return {"_class_name": "DDIMScheduler", **NOISE, **_prediction(identity), **_from_noise(header)}


def euler(identity: Identity, header: Header) -> Mapping[str, Any]:
    """SDXL and its refiner."""
    unknown = ("set_alpha_to_one", "clip_sample")
    noise = {name: value for name, value in NOISE.items() if name not in unknown}
    words = {"interpolation_type": "linear", "use_karras_sigmas": False}
    return {"_class_name": "EulerDiscreteScheduler", **noise, **words, **_prediction(identity), **_from_noise(header)}


def _prediction(identity: Identity) -> dict[str, str]:
    return {"prediction_type": identity.prediction_type or "epsilon"}


def _ends_in_noise(header: Header) -> bool:
    return ZERO_SNR in header.tensors or header.metadata.get(ZERO_SNR, "").lower() in ("true", "1")


def _from_noise(header: Header) -> dict[str, Any]:
    return {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if _ends_in_noise(header) else {}
