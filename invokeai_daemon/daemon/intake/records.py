"""Records: what became of drops, written down: in the registry, in the log, for the hook. Called by the intake.

Entries are collected and written together, since the registry is one file: one drop at once, thousands in batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from invokeai_daemon.daemon.guard import Guard, fault
from invokeai_daemon.daemon.intake.notes import Note, Notes
from invokeai_daemon.daemon.intake.orders import Order
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.notify import Notifier
from invokeai_daemon.errors import ModelError
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.models.units import hub_name
from invokeai_daemon.workers.protocol import Message

#: Entries that are written together, and the seconds that the first of them may wait for more.
BATCH, PAUSE = 500, 2.0
#: Full hashes that are written together, and the seconds that the first of them may wait.
HASHES, HASH_PAUSE = 200, 10.0
#: Characters of the evidence that a line of the log shows.
SHOWN = 400

T = TypeVar("T")


@dataclass(frozen=True)
class Record:
    """What became of one drop."""

    path: Path
    entry: Entry
    note: Note
    #: The facts that decided.
    evidence: tuple[str, ...] = ()


def record_of(order: Order, message: Message) -> Record:
    """What the importer's answer says, as it is written down."""
    identity = message.get("identity") or {}
    needs = " ".join(sorted({str(need["type"]) for need in identity.get("needs", ())}))
    if message["event"] == "imported":
        entry = Entry.from_json(message["entry"])
    else:
        entry = verdict_entry(order.path, message["state"], said(message), identity, message.get("words"))
    note = Note(order.signature, str(message.get("fingerprint", "")), needs)
    return Record(order.path, entry, note, tuple(identity.get("evidence", ())))


def verdict_entry(
    path: Path, state: str, reason: str, identity: Message | None = None, words: Message | None = None
) -> Entry:
    """The entry of a drop that cannot be used, with what the user says of it."""
    known = {
        key: value
        for key in ("type", "base", "format", "variant", "prediction_type", "dialect")
        if (value := (identity or {}).get(key))
    }
    sentences = tuple(str(need["why"]) for need in (identity or {}).get("needs", ()))
    name = hub_name(path) or (path.name if path.is_dir() else path.stem)
    user = {"name": name, **(words or {})}
    user["trigger_phrases"] = tuple(user.get("trigger_phrases", ()))
    return Entry(path=str(path), source=str(path), status=state, reason=reason, needs=sentences, **known, **user)


def said(message: Message) -> str:
    """The reason of a verdict and the families that came near, as one text."""
    reason = str(message["reason"])
    nearest = (f"Not {family}: {why}." for family, why in message.get("nearest", []) if why not in reason)
    return " ".join([reason, *nearest])


@dataclass
class Records:
    """What waits to be written, and what was. `written` is called with each record that the registry took."""

    registry: Registry
    notes: Notes
    notifier: Notifier
    #: Called with each record and its name in the registry, once it is written.
    written: Callable[[Record, str], None]
    #: What keeps a fault over one record from the others.
    guard: Guard
    #: The registry says something else than it did; the loop resets it.
    changed: bool = True
    _waiting: dict[Path, Record] = field(default_factory=dict)
    _since: float = 0.0
    _hashes: dict[Path, str] = field(default_factory=dict)
    _hashes_since: float = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, path: Path) -> bool:
        return path in self._waiting

    def put(self, record: Record, now: float) -> None:
        if not self._waiting:
            self._since = now
        self._waiting[record.path] = record

    def write(self, now: float, at_once: bool) -> list[Path]:
        """Write what waits, if it is time or `at_once`. The drops whose entries the registry would not take now."""
        if not self._waiting or not (at_once or len(self._waiting) >= BATCH or now - self._since >= PAUSE):
            return []
        records, self._waiting = list(self._waiting.values()), {}
        try:
            return self._write(records)
        except Exception:  # noqa: BLE001
            events.exception("models.not_written", count=len(records))
        return [path for record in records for path in self._write_alone(record)]

    def _write_alone(self, record: Record) -> list[Path]:
        """One of those that could not be written together; what cannot be written at all is passed over."""
        try:
            return self._write([record])
        except Exception as error:  # noqa: BLE001
            with self.guard.over(record.path):
                self.notes.put(record.path, record.note)
                reason = f"{record.path}: {fault(error)}"
                self._write([replace(record, entry=verdict_entry(record.path, "rejected", reason))])
        return []

    def _write(self, records: list[Record]) -> list[Path]:
        self._move(records)
        before = [self.registry.by_source(record.path) for record in records]
        entries = [self._completed(record, old) for record, old in zip(records, before, strict=True)]
        names = self.edit(lambda: self.registry.add_many(entries))
        if names is None:
            return [record.path for record in records]
        for record, name, old in zip(records, names, before, strict=True):
            self._tell(record, name, old)
            self.notes.put(record.path, record.note)
            self.written(record, name)
        return []

    def put_hash(self, path: Path, digest: str, now: float) -> None:
        """The full hash of a file that is used in place."""
        if not self._hashes:
            self._hashes_since = now
        self._hashes[path] = digest

    def write_hashes(self, now: float, at_once: bool) -> None:
        """Write the hashes that wait; equal ones make two entries one with two paths."""
        is_time = len(self._hashes) >= HASHES or now - self._hashes_since >= HASH_PAUSE
        if not self._hashes or not (at_once or is_time):
            return
        hashes, self._hashes = self._hashes, {}
        entries = {path: self.registry.by_source(path) for path in hashes}
        found = {entry.name: {"hash": hashes[path]} for path, entry in entries.items() if entry and not entry.hash}
        if found and self.edit(lambda: self.registry.update_many(found, derived=True)) is not None:
            events.info("models.hashed", count=len(found))

    def is_hash_waiting(self, path: Path) -> bool:
        return path in self._hashes

    def next_time(self) -> float:
        times = [self._since + PAUSE] if self._waiting else []
        return min([*times, *([self._hashes_since + HASH_PAUSE] if self._hashes else [])], default=float("inf"))

    def edit(self, change: Callable[[], T]) -> T | None:
        """Change the registry; None, and a line in the log, when its file cannot be changed now."""
        self.changed = True
        try:
            return change()
        except (ModelError, OSError) as error:
            events.error("registry.not_changed", reason=str(error))
            return None

    # -- inside ----------------------------------------------------------------------------------------------------

    def _move(self, records: list[Record]) -> None:
        """Let the entries of files that were moved here, also from another disk, go with them."""
        moves: dict[str, Path] = {}
        for record in records:
            if self.notes.get(record.path) is None and self.registry.by_source(record.path) is None:
                alike = (path for path in self.notes.alike(record.note.fingerprint) if not os.path.lexists(path))
                old = next((path for path in alike if path not in moves and self.registry.by_source(path)), None)
                if old is not None:
                    moves[old] = record.path
        names = self.edit(lambda: self.registry.moved_many(list(moves.items()))) if moves else None
        for (old, path), name in zip(moves.items(), names or (), strict=False):
            self.notes.put(path, self.notes.get(old) or Note(""))
            self.notes.forget(old)
            events.info("model.moved", name=name, path=path, before=old)

    def _completed(self, record: Record, old: Entry | None) -> Entry:
        """The entry with the hash that is known of these very bytes."""
        noted, fingerprint = self.notes.get(record.path), record.note.fingerprint
        is_same = old is not None and noted is not None and noted.fingerprint == fingerprint != ""
        if old is not None and is_same and not record.entry.hash:
            return replace(record.entry, hash=old.hash)
        return record.entry

    def _tell(self, record: Record, name: str, old: Entry | None) -> None:
        entry, path = record.entry, record.path
        noted = self.notes.get(path)
        if old is not None and noted is not None and _is_other(entry, record.note, old, noted):
            events.info("model.changed", name=name, path=path, reason="there are new bytes under this name")
        because = "; ".join(record.evidence)[:SHOWN]
        facts: dict[str, Any] = {"base": entry.base, "type": entry.type}
        if entry.status == "ok":
            events.info("model.imported", name=name, path=path, **facts, because=because)
            self.notifier.tell("model_imported", name=name, path=str(path), **facts)
            return
        if entry.status == "unusable":
            events.warning("model.unusable", name=name, path=path, **facts, reason=entry.reason, because=because)
        else:
            events.warning(f"model.{entry.status}", path=path, reason=entry.reason)
        self.notifier.tell("model_rejected", path=str(path), state=entry.status, reason=entry.reason)


def _is_other(entry: Entry, note: Note, old: Entry, noted: Note) -> bool:
    """Whether a model has other bytes than it had under this path."""
    if note.fingerprint and noted.fingerprint:
        return note.fingerprint != noted.fingerprint
    return bool(entry.hash and old.hash and entry.hash != old.hash)
