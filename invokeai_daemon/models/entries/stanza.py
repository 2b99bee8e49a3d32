"""An entry as it stands in `models.yaml`: read in this daemon's words or those of InvokeAI 2.3 and 3, and written.

Called by the registry. Only `seen` opens files: of the folder of an older stanza that names neither type nor base.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import Problem
from invokeai_daemon.models.entries.entry import STATUSES, Entry
from invokeai_daemon.models.identity import BASES, TYPES
from invokeai_daemon.models.stanzas import Stanza
from invokeai_daemon.strict_toml import nearest

#: InvokeAI's own bookkeeping.
NOT_MODELS = {"__metadata__"}
#: InvokeAI 3 named stanzas base/type/name.
_KEY_OF_3 = re.compile(r"(any|sd-1|sd-2|sdxl|sdxl-refiner)/(\w+)/(.+)")
#: Files that only the confined importer looks into.
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")

#: Keys whose few values many entries share.
_WORDS = ("type", "base", "format", "variant", "prediction_type", "dialect", "status")
_TEXTS = (*_WORDS, "hash", "description", "source_url", "reason")
#: Keys of a stanza that are fields of an entry, in the order in which a new stanza has them.
KEYS = (
    "description",
    "type",
    "base",
    "format",
    "dialect",
    "variant",
    "prediction_type",
    "default",
    "path",
    "source",
    "aliases",
    "hash",
    "status",
    "reason",
    "needs",
    "source_url",
    "cover_image",
    "default_settings",
    "trigger_phrases",
    "cpu_only",
    "vae",
    "config",
)

# Reading


def read_entry(stanza: Stanza, root: Path) -> tuple[Entry, list[Problem]]:
    """The entry of a stanza, and what was wrong in it; lines are counted from the stanza's own."""
    value, problems = stanza.value, []
    texts: dict[str, Any] = {}
    for key in _TEXTS:
        text = value.get(key)
        if text is not None and not isinstance(text, str):
            problems.append(Problem(f"{text!r} should be text.", f"{stanza.name}.{key}", 1))
        elif text:
            texts[key] = sys.intern(text) if key in _WORDS else text
    older = _KEY_OF_3.fullmatch(stanza.name)
    if older:
        texts.setdefault("base", older[1])
        texts.setdefault("type", older[2])
    if texts.get("format") == "ckpt":
        texts["format"] = "checkpoint"
    if texts.get("status") not in (None, *STATUSES):
        message = f"{texts['status']!r} is no status; use {', '.join(STATUSES)}."
        problems.append(Problem(message, stanza.name, 1))
        del texts["status"]
    problems += _mistakes(stanza.name, value, texts)
    path, source = _path(value.get("path") or value.get("weights"), root), _path(value.get("source"), root)
    entry = Entry(
        name=older[3] if older else stanza.name,
        path=path,
        source=path if source == path else source,
        aliases=tuple(_path(alias, root) for alias in _list(value.get("aliases"))),
        needs=_list(value.get("needs")),
        cover_image=_path(value.get("cover_image"), root),
        default_settings=_default_settings(value),
        trigger_phrases=_list(value.get("trigger_phrases")),
        default=value.get("default") is True,
        vae=_vae(value.get("vae"), root),
        config=_path(value.get("config"), root),
        cpu_only=value["cpu_only"] if isinstance(value.get("cpu_only"), bool) else None,
        **texts,
    )
    return _explained(entry, value), problems


#: The kinds of value that keys beside the texts take, and the words for them.
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "default_settings": ((dict,), "keys and values"),
    "trigger_phrases": ((list,), "a list of texts"),
    "aliases": ((list,), "a list of paths"),
    "needs": ((list,), "a list of texts"),
    "cpu_only": ((bool,), "true or false"),
    "default": ((bool,), "true or false"),
}
_SETTINGS: Mapping[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("width", "height", "steps"), ((int,), "a whole number")),
    **dict.fromkeys(("cfg_scale", "weight"), ((int, float), "a number")),
    **dict.fromkeys(("scheduler", "negative_prompt"), ((str,), "text")),
}


def _mistakes(name: str, value: Mapping[str, Any], texts: dict[str, Any]) -> list[Problem]:
    """Words that no model has and values of the wrong kind; they are taken out of `texts`, or not read."""
    problems = []
    for key, known in (("type", TYPES), ("base", BASES)):
        word = texts.get(key)
        if word is not None and word != "unknown" and word not in known:
            meant = nearest(word, known)
            hint = f'Did you mean "{meant}"?' if meant else f"Known are {', '.join(known[:8])}, …"
            problems.append(Problem(f"{word!r} is no {key}.", f"{name}.{key}", 1, hint))
            del texts[key]
    settings = value.get("default_settings")
    inner = settings if isinstance(settings, dict) else {}
    for place, kinds, values in (("", _KINDS, value), ("default_settings.", _SETTINGS, inner)):
        for key, (types, words) in kinds.items():
            found = values.get(key)
            is_right = isinstance(found, types) and (bool in types or not isinstance(found, bool))
            if found is not None and not is_right:
                problems.append(Problem(f"{found!r} should be {words}.", f"{name}.{place}{key}", 1))
    return problems


def _path(value: Any, root: Path) -> str:
    if not isinstance(value, str) or not value:
        return ""
    text = value if value.isascii() else value.translate(_FROM_PRIVATE)
    if text.startswith("~"):
        text = str(Path(text).expanduser())
    return os.path.normpath(text if text.startswith(os.sep) else f"{root}{os.sep}{text}")


def _list(value: Any) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _default_settings(value: Mapping[str, Any]) -> dict[str, Any]:
    settings = value.get("default_settings")
    size = {key: value[key] for key in ("width", "height") if isinstance(value.get(key), int)}
    if not isinstance(settings, dict):
        return size
    return {**size, **{key: one for key, one in settings.items() if _is_of_its_kind(key, one)}}


def _is_of_its_kind(key: str, value: Any) -> bool:
    types, _ = _SETTINGS.get(key, ((object,), ""))
    return isinstance(value, types) and not (isinstance(value, bool) and key in _SETTINGS)


def _vae(value: Any, root: Path) -> str:
    """InvokeAI's `vae`: a path, {path, subfolder} or {repo_id}."""
    if isinstance(value, dict):
        if isinstance(value.get("repo_id"), str):
            return str(value["repo_id"])
        folder = _path(value.get("path"), root)
        return os.path.normpath(f"{folder}/{value.get('subfolder') or ''}") if folder else ""
    path = _path(value, root)
    is_repository = isinstance(value, str) and _REPOSITORY.fullmatch(value) and not os.path.lexists(path)
    return str(value) if is_repository and not Path(value).suffix else path


def _explained(entry: Entry, value: Mapping[str, Any]) -> Entry:
    """What is the matter with an older stanza that cannot be used as it is."""
    if not entry.path:
        repository = value.get("repo_id")
        what = f"the repository {repository} is not on this disk" if repository else "the entry has no path"
        return entry if entry.status in ("unknown", "rejected") else replace(entry, status="missing", reason=what)
    if entry.format == "checkpoint" and is_older(entry):
        hint = f"an entry of InvokeAI 2.3 for a single file; to convert it: invokeai-daemon models convert {entry.name}"
        return replace(entry, status="unknown", reason=entry.reason or hint)
    return entry


def is_older(entry: Entry) -> bool:
    """Whether its stanza says neither type nor base, like those of InvokeAI 2.3."""
    return entry.status == "ok" and "unknown" in (entry.type, entry.base)


def seen(entry: Entry) -> Entry:
    """An older entry with what its folder shows."""
    from invokeai_daemon.models.identify import judge

    if any(path.suffix.lower() in _PICKLES for path in Path(entry.path).rglob("*")):
        hint = f"to have it looked at: invokeai-daemon models reidentify {entry.name}"
        return replace(
            entry, status="unknown", reason=f"an entry of an older InvokeAI with pickles in its folder; {hint}"
        )
    verdict = judge(Path(entry.path))
    known = verdict.identity
    return replace(
        entry,
        status=verdict.state,
        reason=verdict.reason,
        type=known.type,
        base=known.base,
        format=known.format,
        variant=entry.variant or known.variant,
        prediction_type=entry.prediction_type or known.prediction_type,
    )


# Writing

#: Bytes of a file name that are no UTF-8, as Python has them in a text, and as YAML can hold them.
_TO_PRIVATE = {0xDC00 + byte: 0xF700 + byte for byte in range(0x80, 0x100)}
_FROM_PRIVATE = {private: surrogate for surrogate, private in _TO_PRIVATE.items()}


def values_of(entry: Entry, root: Path) -> dict[str, Any]:
    """The values of an entry as they stand in the file; None where the key is left out."""
    values: dict[str, Any] = {key: _plain(getattr(entry, key)) for key in KEYS}
    for key in ("path", "source", "cover_image", "vae", "config"):
        values[key] = shown_path(getattr(entry, key), root) or None
    values["aliases"] = [shown_path(alias, root) for alias in entry.aliases] or None
    values["description"] = _plain(entry.description) or ""
    values["cpu_only"] = entry.cpu_only
    if entry.status in ("ok", "missing"):
        values["status"] = None
    return values


def shown_path(path: str, root: Path) -> str:
    """A path as it stands in the file: relative to the root where it lies in it."""
    return path.removeprefix(f"{root}{os.sep}").translate(_TO_PRIVATE)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value] or None
    if isinstance(value, Mapping):
        return dict(value) or None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode() or None
    return value or None
