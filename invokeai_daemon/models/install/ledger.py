"""Ledger: which address became which file, so that what is there is not fetched again. `.state/installed.json`.

A memory, not the truth: it may be deleted, and counts only while the file is as it was left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from invokeai_daemon import files
from invokeai_daemon.models.install.download import Note

MOST = 10_000


class Ledger:
    """The addresses that were fetched into one root."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, note: Note) -> Path | None:
        """The file that the same content of the same address became, if it is as it was left."""
        known = self._read().get(note.address)
        if not isinstance(known, dict) or not (note.etag or note.modified):
            return None
        if (known.get("etag"), known.get("modified"), known.get("size")) != (note.etag, note.modified, note.total):
            return None
        path = Path(str(known.get("path")))
        return path if self._is_as_left(path, known) else None

    def write(self, note: Note, path: Path) -> None:
        """Remember what an address became."""
        if not (note.etag or note.modified):
            return
        status = path.stat()
        entry = {"path": str(path), "etag": note.etag, "modified": note.modified, "size": note.total}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(self._path.with_name(f".{self._path.name}.lock")):
            known = self._read()
            known.pop(note.address, None)
            known[note.address] = {**entry, "length": status.st_size, "mtime_ns": status.st_mtime_ns}
            kept = dict(list(known.items())[-MOST:])
            files.write_atomically(self._path, json.dumps(kept, indent=0), durable=False)

    @staticmethod
    def _is_as_left(path: Path, known: dict[str, Any]) -> bool:
        try:
            status = path.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (known.get("length"), known.get("mtime_ns"))

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
