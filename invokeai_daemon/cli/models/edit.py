"""`models edit`: what a person says about a model, checked before it is written."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from invokeai_daemon.cli.models.report import ModelCommandError, each, report
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.cli.roots import shown
from invokeai_daemon.models.cover import opened_picture
from invokeai_daemon.models.entries.contents import origin
from invokeai_daemon.models.entries.memory import IDENTITY
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.models.sidecar import sidecar_path
from invokeai_daemon.models.words import checked
from invokeai_daemon.root import Root

#: Keys that can be emptied: those without which a model still is one.
CLEARABLE = (
    "description",
    "source_url",
    "cover_image",
    "trigger_phrases",
    "default_settings",
    "variant",
    "prediction_type",
    "default",
    "cpu_only",
)
#: Keys of a sidecar that say nothing about an entry.
NOT_EDITED = {"install", "hash"}


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="NAME... KEY=VALUE...")
@json_option
@with_root
def edit(root: Root, words: tuple[str, ...], as_json: bool) -> int:
    """Change what is known of the models NAME. KEY= alone empties a key.

    Keys: name, description, type, base, variant, prediction_type, default_settings.KEY, trigger_phrases (split at
    commas), source_url, cover_image (a picture file), default and cpu_only (true or false).
    """
    names = [word for word in words if "=" not in word]
    values = dict(word.split("=", 1) for word in words if "=" in word)
    if not names or not values:
        raise click.UsageError("Name at least one model and one KEY=VALUE.")
    if len(names) > 1 and values.keys() & {"name", "default"}:
        raise click.UsageError("Only one model can have a name, or be the default.")
    registry = Registry(root)
    return report(each(names, lambda name: _edited(root, registry, registry.find(name), values)), as_json)


def _edited(root: Root, registry: Registry, entry: Entry, values: dict[str, str]) -> str:
    changes = changes_of(entry, values)
    new_name = changes.pop("name", entry.name)
    if changes:
        registry.update(entry.name, **changes)
    name = registry.rename(entry.name, new_name) if new_name != entry.name else entry.name
    done = f"Changed {', '.join(sorted(values))} of {name}{f', which was {entry.name}' if name != entry.name else ''}."
    return done + _hint(root, entry, changes)


def _hint(root: Root, entry: Entry, changes: dict[str, Any]) -> str:
    """What else is needed for a file that became no model because nobody knew what it is."""
    told = {key: value for key, value in changes.items() if key in IDENTITY and value}
    if entry.status != "unknown" or not told or not origin(entry):
        return ""
    lines = ", ".join(f'{key} = "{value}"' for key, value in told.items())
    sidecar = shown(sidecar_path(Path(origin(entry))), root)
    return f" To have the file looked at again as that, write {lines} into {sidecar}."


def changes_of(entry: Entry, values: dict[str, str]) -> dict[str, Any]:
    """Fields of an entry from KEY=VALUE words. Raises WordsError with everything that is wrong, ModelCommandError."""
    said: dict[str, Any] = {}
    settings = dict(entry.default_settings)
    empty = {key for key, text in values.items() if not text.strip() and key in CLEARABLE}
    for key, text in values.items():
        table, dot, inner = key.partition(".")
        if table == "default_settings" and dot:
            if text.strip():
                said.setdefault(table, {})[inner] = _value(text)
            settings.pop(inner, None)
        elif key not in empty:
            said[key] = (
                _value(text) if key in ("default", "cpu_only") else _phrases(text) if key == "trigger_phrases" else text
            )
    for key in said.keys() & NOT_EDITED:
        raise ModelCommandError(f"{key} follows from the file; it cannot be edited.")
    words = checked(said, " ".join(f"{key}={text}" for key, text in values.items()))
    changes = {key: getattr(words, key) for key in said if key != "default_settings"}
    if "trigger_phrases" in changes:
        changes["trigger_phrases"] = tuple(changes["trigger_phrases"])
    if any(key.startswith("default_settings.") for key in values):
        changes["default_settings"] = {**settings, **words.default_settings.model_dump(exclude_none=True)}
    if changes.get("cover_image"):
        picture = Path(changes["cover_image"]).expanduser().absolute()
        opened_picture(picture)
        changes["cover_image"] = str(picture)
    return changes | {key: getattr(Entry("", ""), key) for key in empty}


def _value(text: str) -> Any:
    """A number, true or false; anything else is a text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _phrases(text: str) -> list[str]:
    return [phrase.strip() for phrase in text.split(",") if phrase.strip()]
