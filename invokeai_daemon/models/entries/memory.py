"""Memory: what the registry last derived of each source, so that it can tell the user's words from its own.

Kept in `.state/registry.json`, which may be deleted: then every word in `models.yaml` counts as the user's. Beside the
words stands the fingerprint of the source, by which a file that was moved or renamed is known before it is hashed.
Read and written by the registry under its lock.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from invokeai_daemon.files import write_atomically
from invokeai_daemon.models.entries.entry import Entry

#: What sidecars, companions and the file itself say, and users may say otherwise.
WORDS = ("description", "source_url", "cover_image", "trigger_phrases", "cpu_only", "vae", "config")
#: What identification says, and users may correct.
IDENTITY = ("type", "base", "variant", "prediction_type")

#: `fingerprint`, `device` of its folder, `name` (as given), `wanted` (as asked for), the `path` of
#: its converted copy, and the words that were not empty.
Note = dict[str, Any]


def fingerprint_of(path: str) -> str:
    """Device, inode, size and modification time of a file; empty for folders, whose inode says little, and for none."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return ""
    if not stat.S_ISREG(status.st_mode):
        return ""
    return f"{status.st_dev:x}:{status.st_ino:x}:{status.st_size:x}:{status.st_mtime_ns:x}"


def device_of(path: str) -> int | None:
    """The disk that the folder of a path is on now; None when the folder is not there."""
    try:
        return Path(path).parent.stat().st_dev
    except (OSError, ValueError):
        return None


class Memory:
    """The notes on all sources, by their path."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._notes = _read(file)
        self._by_fingerprint = {
            note["fingerprint"]: source for source, note in self._notes.items() if note.get("fingerprint")
        }
        self._is_changed = False

    def note(self, source: str) -> Note | None:
        return self._notes.get(source)

    def fingerprint(self, source: str) -> str:
        """The fingerprint that a source had when it was looked at; empty when it never was."""
        return str(self._notes.get(source, {}).get("fingerprint", ""))

    def source_of(self, fingerprint: str) -> str | None:
        """The source that had this fingerprint."""
        return self._by_fingerprint.get(fingerprint) if fingerprint else None

    def is_deleted(self, source: str) -> bool:
        """Whether a source is gone because somebody deleted it: its folder is there, on the disk that it was on.

        Else a disk is not mounted, or a link leads nowhere, and it comes back.
        """
        device = self._notes.get(source, {}).get("device")
        return device is not None and not os.path.lexists(source) and device == device_of(source)

    def remember(self, entry: Entry, name: str, fingerprint: str) -> None:
        """What was derived of a source, and the name that it was given."""
        said = {key: getattr(entry, key) for key in (*WORDS, *IDENTITY, "default_settings")}
        note = {key: _as_json(value) for key, value in said.items() if value not in (None, "", (), {})}
        if entry.path != entry.source:
            note["path"] = entry.path
        self._put(entry.source, {"fingerprint": fingerprint, "name": name, "wanted": entry.name, **note})

    def remember_alias(self, source: str, fingerprint: str) -> None:
        self._put(source, {"fingerprint": fingerprint})

    def derive(self, source: str, words: Note) -> None:
        """Words that the daemon found out later."""
        said = {key: _as_json(value) for key, value in words.items() if key in (*WORDS, *IDENTITY, "default_settings")}
        if said:
            self._put(source, {**self._notes.get(source, {}), **said})

    def move(self, source: str, target: str) -> None:
        """A source has another path now."""
        note = dict(self._notes.get(source, {}))
        if note.get("wanted") == Path(source).stem:
            # What it would be called by its file; its entry keeps the name that it has.
            note["wanted"] = Path(target).stem
        self.forget(source)
        self._put(target, {**note, "fingerprint": fingerprint_of(target)})

    def forget(self, source: str) -> None:
        note = self._notes.pop(source, None)
        if note is not None:
            self._is_changed = True
            if self._by_fingerprint.get(note.get("fingerprint", "")) == source:
                del self._by_fingerprint[note["fingerprint"]]

    def _put(self, source: str, note: Note) -> None:
        note = {**note, "device": device_of(source)}
        if source and self._notes.get(source) != note:
            self.forget(source)
            self._notes[source] = note
            self._is_changed = True
            if note.get("fingerprint"):
                self._by_fingerprint[note["fingerprint"]] = source

    def write(self) -> None:
        """Keep the notes, if they changed. They are a help, not the truth: a disk that is full costs nothing else."""
        if not self._is_changed:
            return
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file, json.dumps(self._notes, separators=(",", ":")), durable=False)


def _read(file: Path) -> dict[str, Note]:
    try:
        notes = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(notes, dict):
        return {}
    return {source: note for source, note in notes.items() if isinstance(note, dict)}


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def with_users_words(entry: Entry, old: Entry, note: Note | None) -> Entry:
    """A newly derived entry with what the user wrote into the old one.

    What differs from what was derived then is the user's; without a note everything that the old entry says is.
    """
    kept: dict[str, Any] = {}
    for key in WORDS:
        said = getattr(old, key)
        is_users = _as_json(said) != note.get(key, _as_json(_EMPTY[key])) if note else said not in (None, "", ())
        if is_users:
            kept[key] = said
    kept |= _users_identity(old, note)
    return replace(entry, **kept, default=old.default, default_settings=_settings(entry, old, note))


_EMPTY = {key: getattr(Entry("", ""), key) for key in WORDS}


def _users_identity(old: Entry, note: Note | None) -> dict[str, Any]:
    """What the user corrected of what a model was found to be."""
    if not note or "name" not in note:
        return {}
    said = {key: getattr(old, key) for key in IDENTITY}
    return {key: value for key, value in said.items() if value not in (None, "unknown", note.get(key))}


def _settings(entry: Entry, old: Entry, note: Note | None) -> dict[str, Any]:
    """The default settings, key by key: what the user changed, added or took out stays so."""
    if note is None:
        return {**entry.default_settings, **old.default_settings}
    before = note.get("default_settings", {})
    users = {key for key in {*before, *old.default_settings} if before.get(key) != old.default_settings.get(key)}
    derived = {key: value for key, value in entry.default_settings.items() if key not in users}
    order = {**old.default_settings, **derived}
    return {key: order[key] for key in order if key in derived or key in users}


def is_as_derived(entry: Entry, note: Note | None) -> bool:
    """Whether the user changed nothing in an entry."""
    if note is None or note.get("name") != entry.name:
        return False
    said = {key: _as_json(getattr(entry, key)) for key in (*WORDS, *IDENTITY, "default_settings")}
    empty: dict[str, Any] = {**_EMPTY, "trigger_phrases": [], "default_settings": {}}
    return all(value == note.get(key, empty.get(key)) for key, value in said.items())
