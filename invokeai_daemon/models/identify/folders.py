"""Folders: what a diffusers or transformers folder is, from its configs.

Called by `identify`. A config that asks for classes of other libraries is unsafe. No weights are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import UnknownModel, UnreadableModel, UnsafeModel
from invokeai_daemon.models.configs import read_config
from invokeai_daemon.models.identify.deciding import Finding
from invokeai_daemon.models.identify.weights import shorten
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.models.sidecar import Sidecar

#: Where diffusers may import a pipeline's parts from; any other name in model_index.json would be imported, too.
_LIBRARIES = {None, "diffusers", "transformers", "stable_diffusion"}
#: context width of a UNet -> base
_BASES = {768: "sd-1", 1024: "sd-2", 2048: "sdxl", 1280: "sdxl-refiner"}
_VARIANTS = {4: "normal", 9: "inpaint", 5: "depth", 8: "edit"}
#: The pipelines that a folder may name and still be an ordinary model.
_PIPELINES = {"StableDiffusionPipeline": {4}, "StableDiffusionInpaintPipeline": {9, 4}}


def read_folder(folder: Path, sidecar: Sidecar | None, hint: str | None) -> Finding:
    """What a folder is. Raises UnreadableModel when it is no model or not whole, UnsafeModel when it asks for code."""
    if not (folder / "model_index.json").is_file():
        raise UnreadableModel(f"{folder}: a folder without model_index.json is not a diffusers model.")
    index = read_config(folder / "model_index.json")
    _check_libraries(folder, index)
    unet = read_config(folder / "unet" / "config.json")
    for part in ("text_encoder", "vae"):
        if index.get(part):
            read_config(folder / part / "config.json")
    return _finding(folder, index, unet, sidecar)


def _finding(folder: Path, index: Mapping[str, Any], unet: Mapping[str, Any], sidecar: Sidecar | None) -> Finding:
    pipeline, width, channels = str(index.get("_class_name")), unet.get("cross_attention_dim"), unet.get("in_channels")
    base = _BASES.get(width) if isinstance(width, int) else None
    if base is None:
        why = f"unet/config.json says cross_attention_dim {width}"
        raise UnknownModel(f"{folder}: a diffusers folder of no known family: {why}.", [("sd-1 main", why)])
    scheduler = folder / "scheduler" / "scheduler_config.json"
    prediction = read_config(scheduler).get("prediction_type") if scheduler.exists() else None
    said = prediction in ("epsilon", "v_prediction", "sample")
    identity = Identity(
        "main",
        base,
        "diffusers",
        _VARIANTS.get(channels) if isinstance(channels, int) else None,
        str(prediction) if said else "epsilon",
        (
            f"model_index.json names a {pipeline}",
            f"unet/config.json says cross_attention_dim {width} and in_channels {channels}",
            *([f"scheduler/scheduler_config.json says prediction_type {prediction}"] if said else []),
        ),
        () if said else ("prediction_type",),
    )
    if channels not in _PIPELINES.get(pipeline, ()):
        why = f"model_index.json names the pipeline {pipeline}; only {' and '.join(_PIPELINES)} are supported yet"
        return Finding(identity, (("sd-1 main", why),), f"{folder}: {why}.")
    _check_weights(folder)
    return Finding(identity)


def _check_weights(folder: Path) -> None:
    for part in ("unet", "vae", "text_encoder"):
        if not any((folder / part).glob("*.safetensors")):
            what = "its weights are pickles" if any((folder / part).glob("*.bin")) else "it has no weights"
            raise UnreadableModel(
                f"{folder / part}: {what}; a folder needs *.safetensors. "
                "Save the pipeline again with safe_serialization=True, or drop the original single file."
            )


def _check_libraries(folder: Path, index: Mapping[str, Any]) -> None:
    for name, value in index.items():
        parts: Iterable[Any] = value if isinstance(value, list) and len(value) == 2 else (None, None)
        library, class_name = parts
        if library not in _LIBRARIES:
            wanted = ascii(f"{library}.{class_name}")[1:-1][:200]
            raise UnsafeModel(
                f"{folder / 'model_index.json'}: its part {shorten(name)} asks for {wanted}; "
                "only classes of diffusers and transformers are loaded.",
                wanted,
            )
