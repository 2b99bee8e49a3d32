"""Notes: what was looked at, and how it was then, so that a start reads no model again. Called by the intake.

Kept in `.state/intake.json`: safe to delete, then everything is looked at once more. A note is the device, inode, size
and modification time of a model and of each of its companions, as one text. Never opens a model.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from invokeai_daemon import files
from invokeai_daemon.daemon.intake.tree import COMPANION_ENDS
from invokeai_daemon.daemon.settle import Signature

#: Seconds between two writes while models keep coming; the file of 5,000 has a megabyte.
PAUSE = 5.0
_VERSION = 2


class Note(NamedTuple):
    """How a drop was when it was looked at."""

    signature: str
    #: What the beginning and the end of a file used in place hash to; empty for others.
    fingerprint: str = ""
    #: Types of the parts that it waits for, joined by blanks.
    needs: str = ""


def signature_of(path: Path, names: Collection[str] | None = None) -> str | None:
    """A text that changes when a drop or a companion of it changes; None when it is gone.

    `names` are those in its folder where they are known: only these are asked for.
    """
    try:
        own, is_folder = _own_signature(path)
    except OSError:
        return None
    parts = [":".join(map(str, own))]
    folder, own_name = f"{path.parent}{os.sep}", path.name
    stem = own_name if is_folder else path.stem
    for end in COMPANION_ENDS:
        beside = stem + end
        if beside != own_name and (names is None or beside in names):
            with suppress(OSError):
                # Texts: sixteen names for each of thousands of files, most of which are not there.
                found = os.stat(folder + beside)  # noqa: PTH116
                parts.append(f"{end}={':'.join(map(str, _signature(found)))}")
    return " ".join(parts)


def _own_signature(path: Path) -> tuple[Signature, bool]:
    """The signature of a drop, and whether it is a folder. Raises OSError when it is gone."""
    try:
        status = path.stat()
    except OSError:
        # A link that leads nowhere has only a state of its own.
        return _signature(path.lstat()), False
    if stat.S_ISDIR(status.st_mode):
        return Signature.of_folder(path), True
    return _signature(status), False


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Notes:
    """The notes of one root."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._notes: dict[str, Note] = _read(file)
        self._by_fingerprint: dict[str, list[str]] = {}
        #: Those with needs.
        self._waiting: dict[str, list[str]] = {}
        for path, note in self._notes.items():
            self._index(path, note)
        self._is_changed = False
        self._not_before = 0.0

    def __len__(self) -> int:
        return len(self._notes)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._notes))

    def get(self, path: Path | str) -> Note | None:
        return self._notes.get(str(path))

    def put(self, path: Path | str, note: Note) -> None:
        self.forget(path)
        self._notes[str(path)] = note
        self._index(str(path), note)
        self._is_changed = True

    def forget(self, path: Path | str) -> None:
        note = self._notes.pop(str(path), None)
        if note is not None:
            self._is_changed = True
            self._waiting.pop(str(path), None)
            if note.fingerprint:
                self._by_fingerprint[note.fingerprint].remove(str(path))

    def alike(self, fingerprint: str) -> list[str]:
        """The paths of files that had this fingerprint."""
        return list(self._by_fingerprint.get(fingerprint, ())) if fingerprint else []

    def waiting_for(self, type_: str) -> list[Path]:
        """The drops that wait for a part of this type."""
        return [Path(path) for path, needs in self._waiting.items() if type_ in needs]

    def write(self, now: float, at_once: bool) -> None:
        """Put them on disk, when something changed and the last time is a while ago."""
        if not self._is_changed or not (at_once or now >= self._not_before):
            return
        self._is_changed, self._not_before = False, now + PAUSE
        text = json.dumps({"version": _VERSION, "notes": self._notes}, separators=(",", ":"))
        with suppress(OSError):
            files.write_atomically(self._file, text.encode("utf-8", "surrogateescape"), durable=False)

    def next_time(self) -> float:
        return self._not_before if self._is_changed else float("inf")

    def _index(self, path: str, note: Note) -> None:
        if note.needs:
            self._waiting[path] = note.needs.split()
        if note.fingerprint:
            self._by_fingerprint.setdefault(note.fingerprint, []).append(path)


def _read(file: Path) -> dict[str, Note]:
    try:
        kept = json.loads(file.read_bytes().decode("utf-8", "surrogateescape"))
        if kept["version"] != _VERSION:
            return {}
        return {str(path): Note(*map(str, note)) for path, note in kept["notes"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
