"""The registry: `configs/models.yaml`, which the daemon writes and people edit while it runs.

Called by the daemon, the commands and the planner of jobs. The file is read again whenever it changed. A path that
vanished makes an entry `missing`, never deletes it. Stanzas of InvokeAI 2.3 and 3 are understood. Never imports torch.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import ModelError, ModelMissing, Problem
from invokeai_daemon.files import locked, write_atomically
from invokeai_daemon.models.entries.entry import STATUSES, Entry
from invokeai_daemon.models.stanzas import Document, Stanza, read_stanzas, with_stanza, without_stanza
from invokeai_daemon.root import Root
from invokeai_daemon.strict_toml import nearest

#: Shorter pieces of a hash are more likely a mistyped name.
MIN_HASH_DIGITS = 6

__all__ = ["Entry", "Registry"]

_HEADING = """\
# The models that invokeai-daemon knows, one stanza each. You may edit this file while the daemon runs:
# comments, order and keys of your own survive. Jobs name a model by its stanza's name.
"""
#: InvokeAI 3 named stanzas base/type/name.
_KEY_OF_3 = re.compile(r"(any|sd-1|sd-2|sdxl|sdxl-refiner)/(\w+)/(.+)")
#: InvokeAI's own bookkeeping.
_NOT_MODELS = {"__metadata__"}


_TEXTS = ("format", "type", "base", "variant", "prediction_type", "hash", "status", "description", "reason")
_FIELDS = (*_TEXTS, "path", "source", "default_settings", "trigger_phrases")


class Registry:
    """The entries of one root's `models.yaml`."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._seen: tuple[int, int, int] | None = None
        self._entries: dict[str, Entry] = {}
        self._keys: dict[str, str] = {}
        self._problems: tuple[Problem, ...] = ()

    @property
    def file(self) -> Path:
        return self._root.registry_file

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong in the file as it is now: line, name and reason of each stanza that is left out."""
        self._refresh()
        return self._problems

    def models(self) -> list[Entry]:
        """All entries in the order of the file, their status as the disk is now."""
        self._refresh()
        return [_checked(entry) for entry in self._entries.values()]

    def get(self, name: str) -> Entry | None:
        """The entry of exactly this name, whatever its status."""
        self._refresh()
        entry = self._entries.get(name)
        return _checked(entry) if entry else None

    def find(self, text: str) -> Entry:
        """The entry that a person means: by name, by a unique beginning of one, or by (the beginning of) its hash.

        Its status may be anything; see `usable`. Raises ModelMissing, with the nearest names, when none or several fit.
        """
        self._refresh()
        wanted = text.strip()
        if wanted in self._entries:
            return _checked(self._entries[wanted])
        fitting = _fitting(self._entries.values(), wanted)
        if len(fitting) == 1:
            return _checked(fitting[0])
        raise ModelMissing(self._not_found(wanted, [entry.name for entry in fitting]))

    def usable(self, text: str) -> Entry:
        """Like `find`, for a job: also raises ModelMissing when the model cannot be rendered now, with the reason."""
        entry = self.find(text)
        if entry.status != "ok":
            raise ModelMissing(f"The model {entry.name} cannot be used: {entry.reason or entry.status}.")
        if entry.type != "main":
            raise ModelMissing(f"{entry.name} is a {entry.type}; a job needs a main model.")
        return entry

    def default_main(self) -> Entry:
        """The main model of a job that names none: the one marked `default: true`, else the first of the file.

        Raises ModelMissing when there is none that can be rendered.
        """
        mains = [entry for entry in self.models() if entry.type == "main" and entry.status == "ok"]
        if not mains:
            raise ModelMissing("No model is registered yet. Drop one into autoimport/main/; the job starts then.")
        return next((entry for entry in mains if entry.default), mains[0])

    def by_source(self, source: Path | str) -> Entry | None:
        """The entry that came from this file or folder."""
        self._refresh()
        wanted = _absolute(source)
        return next((_checked(entry) for entry in self._entries.values() if entry.source == wanted), None)

    def add(self, entry: Entry) -> str:
        """Register a model; returns its name, which gets a number when it is taken.

        An entry from the same source is replaced, keeping its name and the user's own keys and words; so is one with
        the same hash whose source is gone (the file was moved or renamed). A verdict on a source that was replaced by a
        bad file leaves the model that was converted from it before as it is, but for its reason.
        Raises ModelError when the file is broken.
        """
        with self._editing() as document:
            old = self._same(entry)
            name = old.name if old else _free_name(entry.name, self._entries)
            if old and entry.status != "ok" and _is_converted(old):
                entry = replace(old, reason=f"its source was replaced, and the new file cannot be used: {entry.reason}")
            elif old:
                entry = replace(
                    entry,
                    description=old.description or entry.description,
                    default_settings={**entry.default_settings, **old.default_settings},
                    trigger_phrases=old.trigger_phrases or entry.trigger_phrases,
                )
            key = self._keys.get(name, name)
            document.text = with_stanza(document.text, key, self._stanza(entry))
        return name

    def update(self, name: str, **changes: Any) -> Entry:
        """Change fields of an entry. Raises ModelMissing, or ModelError when the file is broken."""
        unknown = changes.keys() - {*_FIELDS}
        if unknown:
            raise TypeError(f"not fields of an entry: {', '.join(sorted(unknown))}")
        with self._editing() as document:
            if name not in self._entries:
                raise ModelMissing(self._not_found(name, []))
            entry = replace(self._entries[name], **changes)
            stanza = self._stanza(entry)
            document.text = with_stanza(document.text, self._keys[name], {key: stanza[key] for key in changes})
        return _checked(self._entries[name])

    def remove(self, name: str) -> Entry:
        """Take an entry out of the file; its files stay. Raises ModelMissing, or ModelError when the file is broken."""
        with self._editing() as document:
            if name not in self._entries:
                raise ModelMissing(self._not_found(name, []))
            entry = self._entries[name]
            document.text = without_stanza(document.text, self._keys[name])
        return entry

    def _refresh(self) -> None:
        """Read the file again if it changed. A file whose outline is broken leaves the last good entries in place."""
        try:
            status = self.file.stat()
        except FileNotFoundError:
            self._seen, self._entries, self._keys, self._problems = None, {}, {}, ()
            return
        signature = (status.st_mtime_ns, status.st_size, status.st_ino)
        if signature != self._seen:
            document = read_stanzas(self.file.read_bytes())
            self._seen = signature
            self._take(document)

    def _take(self, document: Document) -> None:
        problems = list(document.problems)
        if not document.whole:
            self._problems = tuple(problems)
            return
        self._entries, self._keys = {}, {}
        for stanza in document.stanzas:
            if stanza.name in _NOT_MODELS:
                continue
            entry, wrong = read_entry(stanza, self._root.path)
            problems.extend(wrong)
            if entry.name in self._entries:
                entry = replace(entry, name=stanza.name)
            self._entries[entry.name] = entry
            self._keys[entry.name] = stanza.name
        self._problems = tuple(problems)

    def _editing(self) -> _Editing:
        return _Editing(self)

    def _same(self, entry: Entry) -> Entry | None:
        for old in self._entries.values():
            if entry.source and old.source == _absolute(entry.source):
                return old
            if entry.hash and old.hash == entry.hash and old.source and not os.path.lexists(old.source):
                return old
        return None

    def _stanza(self, entry: Entry) -> dict[str, Any]:
        """The values of an entry as they stand in the file; None where the key is left out."""
        texts = {key: getattr(entry, key) or None for key in _TEXTS}
        return {
            "description": entry.description,
            **{key: texts[key] for key in ("type", "base", "format", "variant", "prediction_type")},
            "path": self._shown(entry.path),
            "source": self._shown(entry.source),
            "hash": texts["hash"],
            "status": None if entry.status in ("ok", "missing") else entry.status,
            "reason": texts["reason"],
            "default_settings": dict(entry.default_settings) or None,
            "trigger_phrases": list(entry.trigger_phrases) or None,
        }

    def _shown(self, path: str) -> str | None:
        """A path as it stands in the file: relative to the root where it lies in it."""
        if not path:
            return None
        return _absolute(path).removeprefix(f"{self._root.path}{os.sep}")

    def _not_found(self, wanted: str, fitting: list[str]) -> str:
        if fitting:
            return f"{json.dumps(wanted)} fits several models: {', '.join(fitting[:10])}. Write more of the name."
        names = [entry.name for entry in self._entries.values() if entry.status == "ok"]
        meant = nearest(wanted, names)
        if meant:
            return f"No model is called {json.dumps(wanted)}. Did you mean {json.dumps(meant)}?"
        known = f"Known are {', '.join(names[:10])}." if names else "No model is registered."
        return f"No model is called {json.dumps(wanted)}. {known} Drop one into autoimport/."


class _Editing:
    """A change of the file under its lock: read, change `text`, check, keep a copy, replace."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = locked(registry.file.with_name(f".{registry.file.name}.lock"))
        self.text = ""
        self._before = ""

    def __enter__(self) -> _Editing:
        registry = self._registry
        registry.file.parent.mkdir(parents=True, exist_ok=True)
        self._lock.__enter__()
        try:
            raw = registry.file.read_bytes() if registry.file.exists() else _HEADING.encode()
            document = read_stanzas(raw)
            if not document.whole:
                raise ModelError(
                    f"{registry.file}: {document.problems[0]} Correct the file; nothing was changed "
                    f"(the state before the daemon's last change is in {registry.file.name}.bak)."
                )
            registry._take(document)
            self.text = self._before = raw.decode("utf-8-sig").replace("\r\n", "\n")
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None and self.text != self._before:
                self._write()
        finally:
            self._lock.__exit__(None, None, None)

    def _write(self) -> None:
        registry = self._registry
        document = read_stanzas(self.text.encode())
        if not document.whole:
            raise ModelError(f"{registry.file}: the change would break the file ({document.problems[0]}).")
        if registry.file.exists():
            write_atomically(registry.file.with_name(f"{registry.file.name}.bak"), self._before, durable=False)
        write_atomically(registry.file, self.text)
        registry._take(document)
        registry._seen = None


def read_entry(stanza: Stanza, root: Path) -> tuple[Entry, list[Problem]]:
    """The entry of a stanza, in this daemon's words or InvokeAI's older ones, and what was wrong in it."""
    value, problems = stanza.value, []
    older = _KEY_OF_3.fullmatch(stanza.name)
    texts: dict[str, Any] = {}
    for key in _TEXTS:
        text = value.get(key)
        if text is not None and not isinstance(text, str):
            problems.append(Problem(f"{text!r} should be text.", f"{stanza.name}.{key}", stanza.line))
        elif text:
            texts[key] = text
    if older:
        texts.setdefault("base", older[1])
        texts.setdefault("type", older[2])
    if texts.get("format") == "ckpt":
        texts["format"] = "checkpoint"
    if texts.get("status") not in (None, *STATUSES):
        problems.append(
            Problem(f"{texts['status']!r} is no status; use {', '.join(STATUSES)}.", stanza.name, stanza.line)
        )
        del texts["status"]
    entry = Entry(
        older[3] if older else stanza.name,
        _path(value.get("path") or value.get("weights"), root),
        source=_path(value.get("source"), root),
        default_settings=_default_settings(value),
        trigger_phrases=_phrases(value.get("trigger_phrases")),
        default=value.get("default") is True,
        **texts,
    )
    return _completed(entry, value), problems


def _absolute(path: Path | str) -> str:
    """An absolute path without "..", its symlinks as they are."""
    return os.path.normpath(Path(path).absolute())


def _path(value: Any, root: Path) -> str:
    return os.path.normpath(root / Path(value).expanduser()) if isinstance(value, str) and value else ""


def _default_settings(value: Mapping[str, Any]) -> dict[str, Any]:
    settings = value.get("default_settings")
    size = {key: value[key] for key in ("width", "height") if isinstance(value.get(key), int)}
    return {**size, **settings} if isinstance(settings, dict) else size


def _phrases(value: Any) -> tuple[str, ...]:
    return tuple(phrase for phrase in value if isinstance(phrase, str)) if isinstance(value, list) else ()


def _completed(entry: Entry, value: Mapping[str, Any]) -> Entry:
    """What a stanza leaves out: an older one names neither type nor base, but its folder shows them."""
    if not entry.path:
        repository = value.get("repo_id")
        what = f"the repository {repository} is not on this disk" if repository else "the entry has no path"
        return entry if entry.status in ("unknown", "rejected") else replace(entry, status="missing", reason=what)
    if ("base" in value and "type" in value) or entry.status != "ok":
        return entry
    if entry.format == "checkpoint":
        hint = "an entry of InvokeAI 2.3 for a single file; drop the file into autoimport/ to have it converted"
        return replace(entry, status="unknown", reason=entry.reason or hint)
    if Path(entry.path).is_dir():
        return _as_seen(entry)
    return entry


def _as_seen(entry: Entry) -> Entry:
    from invokeai_daemon.models.identify import judge

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


def _is_converted(entry: Entry) -> bool:
    """Whether it can be used without its source."""
    return entry.path != entry.source and _checked(entry).status == "ok"


def _checked(entry: Entry) -> Entry:
    """The entry with its status as the disk is now."""
    if entry.status == "ok" and not Path(entry.path).exists():
        return replace(entry, status="missing", reason=f"{entry.path} is not there")
    return entry


def _fitting(entries: Iterable[Entry], wanted: str) -> list[Entry]:
    """The entries that a text names: as a whole in other capitals, else by beginning, else by hash."""
    if not wanted:
        return []
    entries = list(entries)
    folded = wanted.casefold()
    digits = folded.removeprefix("blake3:")
    return (
        [entry for entry in entries if entry.name.casefold() == folded]
        or [entry for entry in entries if entry.name.casefold().startswith(folded)]
        or [
            entry
            for entry in entries
            if len(digits) >= MIN_HASH_DIGITS and entry.hash.removeprefix("blake3:").startswith(digits)
        ]
    )


def _free_name(wanted: str, taken: Mapping[str, Entry]) -> str:
    """A name fit for a stanza that no other entry has, whatever its capitals."""
    name = "".join(character if character.isprintable() else "_" for character in wanted).strip() or "model"
    if name in _NOT_MODELS:
        name = f"{name}-1"
    others = {other.casefold() for other in taken}
    number, free = 1, name
    while free.casefold() in others:
        number += 1
        free = f"{name}-{number}"
    return free
