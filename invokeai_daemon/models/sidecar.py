"""Sidecars: `<stem>.toml` beside a model file, in which a user says what the file itself does not.

The `.yaml` that many checkpoints came with is asked for the one thing that it alone knows, the prediction type.
Called by the importer and by the commands before `identify`. Strict: every mistake is named with its line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from invokeai_daemon.errors import Problem, SidecarError
from invokeai_daemon.job.schema import SchedulerName, Size, Text
from invokeai_daemon.models.header import opened
from invokeai_daemon.models.identity import Base, PredictionType, Type, Variant
from invokeai_daemon.strict_toml import read_toml, validate

MAX_BYTES = 64 * 1024


class DefaultSettings(BaseModel):
    """What a job gets from its model when it does not say it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    width: Size | None = Field(None, description="pixels, a multiple of 8")
    height: Size | None = Field(None, description="pixels, a multiple of 8")
    steps: int | None = Field(None, ge=1, le=1000, description="denoising steps")
    cfg_scale: float | None = Field(None, ge=1, le=200, description="how closely to follow the prompt")
    scheduler: SchedulerName | None = Field(None, description="InvokeAI's name, or a 2.3 sampler name")
    negative_prompt: Text | None = Field(None, description="what pictures of this model should not show")
    weight: float | None = Field(None, ge=-10, le=10, description="how strongly an adapter acts")
    preprocessor: Text | None = Field(None, description="what makes the pictures that a control model follows")


class Sidecar(BaseModel):
    """What a user says about a model. None means not said."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: Type | None = Field(None, description="what the model is, whatever the file looks like")
    base: Base | None = Field(None, description="what the model belongs to, whatever the file looks like")
    variant: Variant | None = Field(None, description="normal, inpaint, depth, dev, schnell, …")
    prediction_type: PredictionType | None = Field(
        None, description="what the denoiser predicts; most files do not say it"
    )
    name: Annotated[Text, Field(min_length=1, max_length=200)] | None = Field(
        None, description="its name in models.yaml, instead of the file's stem"
    )
    description: Text | None = Field(None, description="free text")
    trigger_phrases: list[Text] = Field(default_factory=list, description="words that the model was trained on")
    default_settings: DefaultSettings = Field(default_factory=lambda: DefaultSettings.model_validate({}))
    source_url: Text | None = Field(None, description="where the model comes from")
    install: Text | None = Field(None, description="what to fetch while no model of this name is here")
    hash: Text | None = Field(None, description="what a fetched file must be: sha256:… or blake3:…")


def sidecar_path(model: Path) -> Path:
    """Where the sidecar of a model file or folder lies: "cat.toml" beside "cat.safetensors"."""
    return model.with_name(f"{model.name if model.is_dir() else model.stem}.toml")


def read_sidecar(model: Path) -> Sidecar:
    """What is said beside a model file or folder; a Sidecar that says nothing when there is none.

    Raises SidecarError with every mistake in it, UnreadableModel when it cannot be read.
    """
    path = sidecar_path(model)
    sidecar = _read(path) if is_there(path) else Sidecar.model_validate({})
    said = prediction_in(path.with_suffix(".yaml")) if sidecar.prediction_type is None else None
    return sidecar.model_copy(update={"prediction_type": said}) if said else sidecar


def is_there(path: Path) -> bool:
    """Whether anything is; nothing can be under a name that is too long for the file system."""
    try:
        return path.exists()
    except OSError:
        return False


def _read(path: Path) -> Sidecar:
    with opened(path) as (_, size):
        if size > MAX_BYTES:
            raise SidecarError(str(path), [Problem(f"{size:,} bytes are too many; the limit is {MAX_BYTES:,}.")])
        raw = path.read_bytes()
    return validate(Sidecar, read_toml(raw, str(path), SidecarError), SidecarError)


_PARAMETERIZATION = re.compile(rb"""^\s*parameterization:\s*["']?(v|eps)["']?\s*(?:#.*)?$""", re.MULTILINE)
_OF_A_UNET = re.compile(rb"^\s*unet_config:", re.MULTILINE)


def prediction_in(config: Path) -> PredictionType | None:
    """What the training config beside a checkpoint says that its UNet predicts; noise, where a UNet's says nothing."""
    if not is_there(config) or not config.is_file():
        return None
    with opened(config) as (_, size):
        raw = config.read_bytes() if size <= MAX_BYTES else b""
    said = _PARAMETERIZATION.search(raw)
    if said is not None:
        return "v_prediction" if said[1] == b"v" else "epsilon"
    return "epsilon" if _OF_A_UNET.search(raw) else None
