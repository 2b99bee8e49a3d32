"""Folders: what a diffusers or transformers folder is, and what of it is missing.

Called by `identify`. A pipeline (model_index.json) and a part of one (config.json) say themselves what they are; where
they do not, the weights in the folder are held against the same tables as a file. A config that asks for classes of
other libraries is unsafe. No tensor is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import ModelError, UnreadableModel
from invokeai_daemon.models.configs import has_config, read_config
from invokeai_daemon.models.header import Header, read_header
from invokeai_daemon.models.identify.deciding import Finding, decide
from invokeai_daemon.models.identify.folder_classes import (
    Component,
    base_by_config,
    component_of,
)
from invokeai_daemon.models.identify.folder_pipelines import REPAIR, read_pipeline, with_the_sidecar
from invokeai_daemon.models.identify.folder_weights import merged_header, stock_of
from invokeai_daemon.models.identify.language_models import NO_PROMPTS
from invokeai_daemon.models.identify.rooms import matches_of
from invokeai_daemon.models.identify.weights import Weights, shorten
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.models.sidecar import Sidecar

#: Beginnings of the names of parts that are models by themselves.
_ENCODERS = ("text_encoder", "image_encoder")


def read_folder(folder: Path, sidecar: Sidecar | None, hint: str | None) -> Finding:
    """What a folder is. Raises UnreadableModel when it is no model or broken, UnsafeModel when it asks for code."""
    if has_config(folder / "model_index.json"):
        return read_pipeline(folder, sidecar)
    lone = _file_that_is_the_model(folder)
    if lone is not None:
        path, form = lone
        return _as(form, _by_weights(folder, replace(read_header(path), path=folder), sidecar, hint))
    if has_config(folder / "config.json"):
        return _part_of_a_pipeline(folder, sidecar, hint)
    inner = _only_part(folder)
    if inner is not None:
        return read_folder(inner, sidecar, hint)
    if any((folder / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json", "spiece.model")):
        raise UnreadableModel(f"{folder}: a tokenizer alone is not a model. Drop the folder that it belongs to.")
    raise UnreadableModel(
        f"{folder}: a folder without model_index.json or config.json is not one model. Drop the files in it one by one."
    )


def _only_part(folder: Path) -> Path | None:
    """The one encoder in a folder around it and its tokenizer: InvokeAI keeps T5 as text_encoder_2 and tokenizer_2."""
    parts = [path.parent for path in sorted(folder.glob("*/config.json")) if path.parent.name.startswith(_ENCODERS)]
    return parts[0] if len(parts) == 1 else None


# Parts of pipelines, and files in folders of their own


def _part_of_a_pipeline(folder: Path, sidecar: Sidecar | None, hint: str | None) -> Finding:
    config = read_config(folder / "config.json")
    named = component_of(config)
    stock = stock_of(folder)
    lacks = stock.lacks()
    if stock.missing or not stock.files or stock.kind == "other":
        identity = _said_by_config(named[1], config) if named else _seen_in(folder, stock.files, sidecar, hint)
        return Finding(with_the_sidecar(identity, sidecar), (), f"{folder}: {lacks}. {REPAIR[0]}.")
    header = merged_header(folder, stock.files)
    try:
        found = _by_weights(folder, header, sidecar, hint or (named[1].type if named else None))
    except ModelError:
        if named is None:
            raise
        found = None
    if named is None:
        assert found is not None
        return _as("diffusers", found)
    return _joined(folder, named, config, found, sidecar)


def _seen_in(folder: Path, files: Sequence[Path], sidecar: Sidecar | None, hint: str | None) -> Identity:
    """What the shards that are there show; nothing, perhaps."""
    try:
        return _as("diffusers", _by_weights(folder, merged_header(folder, files), sidecar, hint)).identity
    except ModelError:
        return Identity("unknown", "unknown", "diffusers")


def _joined(
    folder: Path,
    named: tuple[str, Component],
    config: Mapping[str, Any],
    found: Finding | None,
    sidecar: Sidecar | None,
) -> Finding:
    """What the config says, and what the weights add to it."""
    name, component = named
    identity = _said_by_config(component, config)
    unusable, nearest = "", found.nearest if found else ()
    if found is not None and found.identity.type == identity.type:
        seen = found.identity
        unusable = found.unusable
        if identity.base == "unknown":
            identity = replace(identity, base=seen.base, assumed=seen.assumed)
        else:
            unusable = "" if "its base cannot be told" in unusable else unusable
        identity = replace(
            identity,
            variant=identity.variant or seen.variant,
            format=seen.format if "quantized" in seen.format else identity.format,
            evidence=(*identity.evidence, *seen.evidence),
            needs=seen.needs,
        )
    identity = replace(identity, evidence=(f"config.json names a {shorten(name)}", *identity.evidence))
    identity = with_the_sidecar(identity, sidecar)
    if identity.type == "text_llm" and not unusable:
        unusable = f"{folder}: {NO_PROMPTS}."
    if identity.base == "unknown" and not unusable:
        unusable = f'{folder}: its base cannot be told. Say it in a sidecar beside the folder: base = "sd-1"'
    return Finding(identity, nearest, unusable)


def _said_by_config(component: Component, config: Mapping[str, Any]) -> Identity:
    base, variant = base_by_config(component.type, config), component.variant(config)
    evidence = [words[1] for words in (base, variant) if words]
    return Identity(
        component.type,
        base[0] if base else component.base,
        component.format,
        variant[0] if variant else None,
        evidence=tuple(evidence),
    )


#: File that makes a folder a model by itself -> the format of such folders.
_FILES = {
    "pytorch_lora_weights.safetensors": "diffusers",
    "pytorch_lora_weights.bin": "diffusers",
    "adapter_model.safetensors": "diffusers",
    "adapter_model.bin": "diffusers",
    "learned_embeds.safetensors": "embedding_folder",
    "learned_embeds.bin": "embedding_folder",
    "ip_adapter.safetensors": "invokeai",
    "ip_adapter.bin": "invokeai",
}


def _file_that_is_the_model(folder: Path) -> tuple[Path, str] | None:
    return next(((folder / name, form) for name, form in _FILES.items() if (folder / name).is_file()), None)


def _by_weights(folder: Path, header: Header, sidecar: Sidecar | None, hint: str | None) -> Finding:
    weights = Weights(header)
    return decide(str(folder), weights, matches_of(weights), sidecar, hint)


def _as(form: str, finding: Finding) -> Finding:
    return replace(finding, identity=replace(finding.identity, format=form))
