"""Intake: the way of models from autoimport/ into the registry. Called by the loop.

Here is decided only which drop is looked at, and when. What was looked at is not read again until it changes, be it the
model or a companion. What users put in autoimport/ is never changed, except for `after_import = "delete"`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from invokeai_daemon.daemon.guard import Guard
from invokeai_daemon.daemon.intake.notes import Note, Notes, signature_of
from invokeai_daemon.daemon.intake.orders import Answer, Loss, Order, Orders
from invokeai_daemon.daemon.intake.records import Record, Records, record_of, verdict_entry
from invokeai_daemon.daemon.intake.tree import Crowds, Tree, is_lone_part, why_not_a_file
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.notify import Notifier
from invokeai_daemon.daemon.settle import Proof, Settler, Signature
from invokeai_daemon.daemon.slices import Slices
from invokeai_daemon.daemon.supervise import Worker
from invokeai_daemon.daemon.watch import Watch
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.models.settled import proof
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from invokeai_daemon.workers.protocol import Message

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
#: A full scan that was asked for waits for so many times what the last one took.
SCAN_SHARE = 10.0


@dataclass
class _Again:
    """An import that failed for a reason that may pass."""

    count: int
    #: Monotonic seconds.
    due: float
    reason: str
    signature: str | None


class Intake:
    """What arrives in autoimport/, from the first sight of it to its entry."""

    def __init__(
        self, root: Root, settings: Settings, registry: Registry, watch: Watch, importer: Worker, notifier: Notifier
    ) -> None:
        self.root, self.settings, self.registry, self.watch = root, settings, registry, watch
        self.importer = importer
        self.tree = Tree(root.autoimport)
        self.guard = Guard(self._fault)
        self.notes = Notes(root.state / "intake.json")
        self.orders = Orders(importer, settings.import_.timeout_seconds)
        self.records = Records(registry, self.notes, notifier, self._written, self.guard)
        self._settler = Settler(settings.watch.model_quiet_seconds, _proof, _state, self.guard)
        self._ready: dict[Path, None] = {}
        self._again: dict[Path, _Again] = {}
        self._scan_due = float("inf")
        self._scanning = Slices(self._scan)
        #: What the scan that is under way found, and what was looked at meanwhile.
        self._found: set[Path] = set()
        self._folders: set[Path] = set()
        #: Monotonic seconds of the last call of the loop.
        self._now = 0.0
        #: When something was last said to be touched, and the folders inside of models that were looked at then.
        self._turn = -1.0
        self._parts: set[Path] = set()
        self._crowds = Crowds()
        #: Files used in place whose full hash is not known; None when that is to be found out.
        self._unhashed: list[Path] | None = None
        #: Those that cannot be hashed; a start tries them again.
        self._unhashable: set[Path] = set()
        #: Wall clock of the last full scan, for the status.
        self.last_scan: float = 0.0

    # -- what the loop calls ---------------------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """The registry may say something else than before."""
        return self.records.changed

    @changed.setter
    def changed(self, value: bool) -> None:
        self.records.changed = value
        if value:
            self._unhashed = None

    def scan(self, now: float) -> None:
        """Look at all of autoimport/: the truth that hints only hurry. What takes longer is gone on with in `step`."""
        self._now, self._scan_due = now, float("inf")
        self._scanning.begin()

    def look(self, path: Path, sealed: bool, now: float) -> None:
        """Something happened to a path below autoimport/."""
        self._now = now
        if now != self._turn:
            self._turn, self._parts = now, set()
        if path.parent in self._parts:
            return
        with self.guard.over(path):
            self._look(path, sealed, now)

    def _look(self, path: Path, sealed: bool, now: float) -> None:
        unit = self.tree.unit(path)
        if unit is None:
            return
        if unit in path.parents:
            # A look at a model is a look at all that is in it: one is enough, however many of its files were touched.
            self._parts.add(path.parent)
            if unit in self._settler:
                # Whether it rests is found out when it is due, however often it is touched until then.
                return
        if unit == path and path.is_dir():
            if path.is_symlink():
                self._scan_soon(now)
            else:
                self._look_at_folder(path, now)
        else:
            for model in [unit] if unit != path else self.tree.models_of(path):
                self._see(model, now, sealed and model == path, self._crowds.names(model.parent, now))

    def step(self, now: float) -> None:
        """Move on: what settled is ready, what is ready goes to the importer, what it says is recorded."""
        self._now = now
        if now >= self._scan_due:
            self.scan(now)
        else:
            self._scanning.step()
        for path in self._settler.ready(now):
            with self.guard.over(path):
                if self.tree.unit(path) == path and self._is_new(path):
                    self._take(path, now)
        for path in [path for path, again in self._again.items() if again.due <= now]:
            if not self._is_under_way(path):
                self._ready[path] = None
        for end in self.orders.listen(now):
            with self.guard.over(end.order.path):
                self._end(end, now)
        self._give(now)
        self._write(now)
        self._hash(now)

    def next_time(self) -> float:
        if self.is_scanning:
            return 0.0
        times = [self._settler.next_time(), self._scan_due, self.orders.next_time()]
        times += [self.records.next_time(), self.notes.next_time()]
        times += [again.due for path, again in self._again.items() if not self._is_under_way(path)]
        if self._ready:
            times.append(self.importer.next_time())
        return min(times)

    @property
    def is_idle(self) -> bool:
        """Nothing arrives, nothing is imported, nothing is to be tried soon."""
        return not (len(self._settler) or self.importing or self.is_scanning or self._scan_due < float("inf"))

    @property
    def is_scanning(self) -> bool:
        return not self._scanning.is_done

    @property
    def importing(self) -> int:
        return len(self._ready) + len(self.orders) + len(self.records)

    def problems(self, now: float) -> Iterator[tuple[str, str]]:
        """What is wrong and where: pairs of a sentence and a path."""
        for path, awaited in self._settler.pending(now, longer_than=60.0):
            yield awaited, str(path)
        for path, again in self._again.items():
            yield f"{again.reason} It is tried again.", str(path)
        if self.importer.last_death:
            yield f"the importer died: {self.importer.last_death}", "importer"

    def stop(self) -> None:
        """End the importer; an unfinished import starts anew at the next start."""
        self.orders.stop()
        self.records.write(0.0, at_once=True)
        self.records.write_hashes(0.0, at_once=True)
        self.notes.write(0.0, at_once=True)

    # -- scans and faults ------------------------------------------------------------------------------------------

    def _scan(self) -> Iterator[None]:
        top, self._folders, self._found = self.root.autoimport, set(), set()
        for listing in self.tree.walk(top, self._watched):
            self._found.update(listing.drops)
            for drop in listing.drops:
                self._see(drop, self._now, sealed=False, names=listing.names)
                yield
            yield
        self.watch.keep_only(top, self._folders)
        self._settler.keep_only(self._found)
        self._forget(self._found)
        self.last_scan = time.time()

    def _watched(self, folder: Path) -> None:
        self._folders.add(folder)
        self.watch.add(folder, self._now, top=self.root.autoimport)

    def _fault(self, path: Path, fault: str) -> None:
        """Something of ours went wrong over a drop: it gets a verdict, like any other that is of no use."""
        self._ready.pop(path, None)
        self._again.pop(path, None)
        self._settler.forget(path)
        if os.path.lexists(path):
            # Without a signature it is new to the next daemon, which may be one without the fault.
            record = Record(path, verdict_entry(path, "rejected", f"{path}: {fault}"), Note(""))
            self.records.put(record, self._now)

    # -- arrivals --------------------------------------------------------------------------------------------------

    def _look_at_folder(self, folder: Path, now: float) -> None:
        for listing in self.tree.walk(folder, self._watched):
            if listing.has_links:
                self._scan_soon(now)
            for drop in listing.drops:
                self._see(drop, now, sealed=False, names=listing.names if drop.parent == listing.folder else None)

    def _scan_soon(self, now: float) -> None:
        self._scan_due = min(self._scan_due, now + SCAN_SHARE * self._scanning.last_took)

    def _see(self, path: Path, now: float, sealed: bool, names: Collection[str] | None = None) -> None:
        self._found.add(path)
        if self._is_under_way(path) or self.guard.passes_over(path):
            return
        with self.guard.over(path):
            if self._is_new(path, names):
                self._settler.see(path, now, sealed and not is_lone_part(path))
            else:
                self._settler.forget(path)

    def _is_under_way(self, path: Path) -> bool:
        return path in self._ready or path in self.orders or path in self.records

    def _is_new(self, path: Path, names: Collection[str] | None = None) -> bool:
        """Whether it was not looked at as it is now, or its converted copy is gone."""
        signature = signature_of(path, names)
        if signature is None:
            return False
        again = self._again.get(path)
        if again is not None:
            return again.signature != signature
        note = self.notes.get(path)
        if note is None or note.signature != signature:
            return True
        entry = self.registry.by_source(path)
        return entry is not None and entry.status == "missing" and path.exists()

    def _take(self, path: Path, now: float) -> None:
        """A drop is complete: it goes to the importer, unless it must not even be opened."""
        why = why_not_a_file(path)
        if why is None:
            self._ready[path] = None
            return
        if self._is_away(path):
            return
        reason = f"{path}: {why}; it was not opened. Drop the model file itself, or a link to it."
        entry = verdict_entry(path, "rejected", reason)
        self.records.put(Record(path, entry, Note(signature_of(path) or "")), now)

    def _is_away(self, path: Path) -> bool:
        """Whether models that are known came from a link that leads nowhere now: its disk is away, and comes back."""
        known = self.registry.by_source(path)
        is_model = known is not None and known.status == "missing"
        return is_model or any(noted.startswith(f"{path}{os.sep}") for noted in self.notes)

    def _forget(self, found: Collection[Path]) -> None:
        """Verdicts on files that the user deleted go with them, and so do those on what became part of a model."""
        gone = self.registry.forgotten()
        gone += [entry.name for entry in self._absorbed(found) if entry.name not in gone]
        if gone and self.records.edit(lambda: self.registry.remove_many(gone)) is not None:
            events.info("models.forgotten", names=gone[:20], count=len(gone))
        for path in self.notes:
            if Path(path) not in found and self.registry.by_source(path) is None:
                self.notes.forget(path)
                self._again.pop(Path(path), None)
        for lost in [path for path in self._again if path not in found and not os.path.lexists(path)]:
            del self._again[lost]

    def _absorbed(self, found: Collection[Path]) -> Iterator[Entry]:
        """The entries of files that arrived before the folder, or the model, that they turned out to belong to."""
        for text in self.notes:
            path = Path(text)
            if path not in found and path.exists() and path.is_relative_to(self.root.autoimport):
                entry = self.registry.by_source(path)
                is_part = self.tree.unit(path) != path or path not in self.tree.models_of(path)
                is_part |= path.is_dir() and not self.tree.is_model(path)
                if entry is not None and entry.source == entry.path == text and is_part:
                    yield entry

    # -- the importer ----------------------------------------------------------------------------------------------

    def _give(self, now: float) -> None:
        if not self._ready:
            self.orders.let_go(now)
            return
        for path in list(self._ready)[: self.orders.room(now)]:
            del self._ready[path]
            with self.guard.over(path):
                signature = signature_of(path)
                if signature is not None:
                    self.orders.give(path, signature, now, self._options())
                    events.debug("model.importing", path=path)

    def _options(self) -> dict[str, object]:
        wanted = self.settings.import_
        return {
            "root": str(self.root.path),
            "verify": wanted.after_import == "delete",
            "use_ema": wanted.use_ema,
            "dtype": wanted.dtype,
        }

    def _end(self, end: Answer | Loss, now: float) -> None:
        """What came of an order."""
        order = end.order
        if isinstance(end, Loss):
            if end.reason:
                self._try_again(order, end.reason, now, end.costs)
            else:
                self._ready[order.path] = None
        elif end.message.get("temporary"):
            self._try_again(order, end.message["reason"], now, costs=False)
        else:
            self.records.put(record_of(order, end.message), now)

    def _try_again(self, order: Order, reason: str, now: float, costs: bool) -> None:
        """Later, ever more rarely; a file that kills the importer every time is rejected in the end."""
        path, before = order.path, self._again.pop(order.path, None)
        count = before.count + 1 if before else 1
        if costs and count >= self.settings.limits.attempts:
            entry = verdict_entry(path, "rejected", f"{path}: {reason} It was tried {count} times.")
            self.records.put(Record(path, entry, Note(order.signature)), now)
            return
        due = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (count - 1))
        self._again[path] = _Again(count, due, reason, order.signature)
        events.warning("model.try_again", path=path, reason=reason, tries=count)

    # -- records ---------------------------------------------------------------------------------------------------

    def _write(self, now: float) -> None:
        is_rest = not (self._ready or len(self.orders))
        for path in self.records.write(now, at_once=is_rest):
            self._try_again(
                Order(path, signature_of(path) or "", now), "The registry could not be written.", now, False
            )
        self.notes.write(now, at_once=is_rest and not len(self._settler))

    def _written(self, record: Record, name: str) -> None:
        """The registry has taken an entry."""
        self._again.pop(record.path, None)
        self._unhashed = None
        if record.entry.status != "ok":
            return
        for path in self.notes.waiting_for(record.entry.type):
            if path != record.path and not self._is_under_way(path):
                events.info("model.looked_at_again", path=path, reason=f"{name} has come, a {record.entry.type}")
                self._ready[path] = None
        if self.settings.import_.after_import == "delete":
            self._delete_original(record)

    def _delete_original(self, record: Record) -> None:
        """Only what has a converted copy in the store, and only as it was when it was converted.

        No links, and nothing that lies behind a linked folder: that is another collection of the user's.
        """
        copy, path = Path(record.entry.path), record.path
        in_store = copy.is_relative_to(self.root.models) and copy.is_dir()
        top = self.root.autoimport
        is_own = path.is_relative_to(top) and path.resolve() == top.resolve() / path.relative_to(top)
        if in_store and is_own and signature_of(path) == record.note.signature:
            path.unlink(missing_ok=True)
            events.info("model.original_deleted", path=path)

    # -- full hashes, when there is nothing else to do -------------------------------------------------------------

    def _hash(self, now: float) -> None:
        """Have the files that are used in place hashed, one at a time."""
        for message in self.orders.hashes:
            path = Path(message["path"])
            with self.guard.over(path):
                self._take_hash(path, message, now)
        self.orders.hashes.clear()
        self.records.write_hashes(now, at_once=False)
        if not self.is_idle or self.orders.is_busy:
            return
        unhashed = self._next_unhashed()
        if unhashed is None:
            self.records.write_hashes(now, at_once=True)
        else:
            self.orders.hash(unhashed, now)

    def _take_hash(self, path: Path, message: Message, now: float) -> None:
        note, entry = self.notes.get(path), self.registry.by_source(path)
        if note is None or entry is None or note.signature != signature_of(path):
            return
        if message["event"] == "hashed":
            self.records.put_hash(path, message["hash"], now)
        elif message.get("damaged"):
            self.records.put(Record(path, replace(entry, status="rejected", reason=message["error"]), note), now)
        elif message.get("error") or message.get("died"):
            reason = message.get("error") or "the importer died over it"
            events.warning("model.not_hashed", path=path, reason=reason)
            self._unhashable.add(path)

    def _next_unhashed(self) -> Path | None:
        if self._unhashed is None:
            self._unhashed = [
                Path(entry.source)
                for entry in self.registry.models()
                if not entry.hash and entry.status in ("ok", "unusable") and self.notes.get(entry.source)
            ]
        while self._unhashed:
            path = self._unhashed[-1]
            if path not in self._unhashable and not self.records.is_hash_waiting(path) and path.exists():
                return path
            self._unhashed.pop()
        return None


def _state(path: Path) -> Signature:
    """The state of a drop that may be of any kind. Raises OSError."""
    if path.is_dir():
        return Signature.of_folder(path)
    with suppress(OSError):
        return Signature.of(path)
    found = path.lstat()
    return Signature(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _proof(path: Path) -> Proof:
    if why_not_a_file(path) is not None:
        return "unknown"
    state: Proof = proof(path)[0]
    return state
