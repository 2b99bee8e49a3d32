"""Words: what a person can say about a registered model, checked, and the settings files of InvokeAI and A1111.

Called by the commands `edit`, `export` and `import-settings`, and by whoever reads the `.json` beside a model. The keys
of a sidecar mean the same here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from invokeai_daemon.errors import ModelError, Problem, ProblemsError
from invokeai_daemon.job.schema import Text
from invokeai_daemon.models.header import opened
from invokeai_daemon.models.registry import Entry
from invokeai_daemon.models.sidecar import DefaultSettings, Sidecar
from invokeai_daemon.strict_toml import Document, validate

#: A data URL of a cover is the largest thing in one.
MAX_BYTES = 64 * 1024 * 1024
#: Characters of all that the JSON beside a model may say of it; it goes into models.yaml, as a sidecar's words do.
MAX_SAID = 64 * 1024
#: Default settings that only InvokeAI knows what to do with: kept and exported, not used.
INVOKEAI_SETTINGS = {
    "vae",
    "vae_precision",
    "cfg_rescale_multiplier",
    "guidance",
    "cpu_only",
    "fp8_storage",
    "weight_min",
    "weight_max",
}


class WordsError(ProblemsError):
    """What is said about a model cannot be."""


class Words(Sidecar):
    """What can be said of an entry: what a sidecar says, and what only the registry holds."""

    unlisted: ClassVar[set[str]] = {"install", "hash"}

    cover_image: Text | None = Field(None, description="a picture file that shows what it does")
    default: bool | None = Field(None, description="whether it is the model of jobs that name none")
    cpu_only: bool | None = Field(None, description="InvokeAI's wish to keep it off the GPU")


def checked(values: Mapping[str, Any], where: str) -> Words:
    """The values as words about a model. Raises WordsError with everything that is wrong."""
    return validate(Words, Document(where, dict(values), {}), WordsError)


@dataclass(frozen=True)
class Said:
    """What a settings file says of one model."""

    #: Its name; empty when the file does not say it.
    name: str
    #: Fields of an entry.
    fields: dict[str, Any]
    #: A data URL; empty when there is none.
    cover: str
    #: Settings that were left out, since nobody knows them.
    ignored: tuple[str, ...] = ()


def read_settings(path: Path) -> list[Said]:
    """What a settings file says: InvokeAI's export of one model or a list of them, or the JSON beside a LoRA.

    Raises WordsError, UnreadableModel, OSError.
    """
    with opened(path) as (_, size):
        if size > MAX_BYTES:
            raise WordsError(str(path), [Problem(f"{size:,} bytes are too many; the limit is {MAX_BYTES:,}.")])
        raw = path.read_bytes()
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise WordsError(str(path), [Problem(f"This is no JSON: {error}.")]) from error
    items = content if isinstance(content, list) else [content]
    if not items or not all(isinstance(item, dict) for item in items):
        raise WordsError(str(path), [Problem("There are no settings of models in it.")])
    return [_said(item, str(path)) for item in items]


def said_beside(path: Path | None) -> dict[str, Any]:
    """The fields of an entry that the JSON beside a model tells.

    None when it is not there, or about other things, or says more than `MAX_SAID`.
    """
    if path is None:
        return {}
    try:
        fields = read_settings(path)[0].fields
    except (ModelError, WordsError, OSError):
        return {}
    return fields if len(json.dumps(fields)) <= MAX_SAID else {}


def _said(item: dict[str, Any], where: str) -> Said:
    if "activation text" in item or "preferred weight" in item or "sd version" in item or "notes" in item:
        item = _of_a1111(item)
    settings = item.get("default_settings") or {}
    if not isinstance(settings, dict):
        raise WordsError(where, [Problem("default_settings should be a table of settings.")])
    settings = {key: value for key, value in settings.items() if value is not None}
    known = {key: value for key, value in settings.items() if key in DefaultSettings.model_fields}
    others = {key: value for key, value in settings.items() if key in INVOKEAI_SETTINGS and _is_plain(value)}
    said = {
        key: item[key]
        for key in ("name", "description", "source_url", "trigger_phrases", "cpu_only")
        if item.get(key) is not None
    }
    words = checked({**said, "default_settings": known}, where)
    fields = words.model_dump(include=set(said) - {"name"})
    if "trigger_phrases" in fields:
        fields["trigger_phrases"] = tuple(fields["trigger_phrases"])
    if "default_settings" in item:
        fields["default_settings"] = {**words.default_settings.model_dump(exclude_none=True), **others}
    cover = item.get("cover_image")
    ignored = tuple(sorted(settings.keys() - known.keys() - others.keys()))
    return Said(words.name or "", fields, cover if isinstance(cover, str) else "", ignored)


def _of_a1111(item: Mapping[str, Any]) -> dict[str, Any]:
    """The words that A1111 keeps beside a LoRA, as InvokeAI takes them over."""
    texts = [str(item[key]).strip() for key in ("description", "notes") if isinstance(item.get(key), str)]
    said: dict[str, Any] = {"description": " | ".join(text for text in texts if text)}
    activation = item.get("activation text")
    if isinstance(activation, str):
        said["trigger_phrases"] = [phrase.strip() for phrase in activation.split(",") if phrase.strip()]
    weight = item.get("preferred weight")
    if isinstance(weight, int | float) and not isinstance(weight, bool) and weight:
        # A1111 writes 0 where nothing was chosen.
        said["default_settings"] = {"weight": weight}
    return {key: value for key, value in said.items() if value}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def settings_of(entry: Entry, cover: str) -> dict[str, Any]:
    """What InvokeAI's settings file of a model holds; `cover` is its picture as a data URL, or empty."""
    return {
        "name": entry.name,
        "description": entry.description or None,
        "source_url": entry.source_url or None,
        "default_settings": dict(entry.default_settings) or None,
        "trigger_phrases": list(entry.trigger_phrases) or None,
        "cpu_only": entry.cpu_only,
        "cover_image": cover or None,
    }
