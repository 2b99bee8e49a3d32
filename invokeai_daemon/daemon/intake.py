"""Intake: what is dropped in autoimport/ becomes models of the registry, or gets a verdict. Called by the loop.

Drops settle, then go to the importer one at a time; here is decided only which and when. What was looked at is noted
in `.state/intake.json` with the signature it had, so that a start reads no file again; a changed file, sidecar or
companion is looked at anew. What users put in autoimport/ is never changed, except for `after_import = "delete"`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invokeai_daemon import files
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.notify import Notifier
from invokeai_daemon.daemon.settle import Proof, Settler, Signature, is_ignored, is_regular, marks_unfinished
from invokeai_daemon.daemon.supervise import Worker
from invokeai_daemon.daemon.watch import Watch
from invokeai_daemon.errors import ModelError
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.models.settled import proof
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from invokeai_daemon.workers.protocol import Message

#: Files that may lie beside models and are none.
NO_MODELS = {
    ".toml",
    ".yaml",
    ".yml",
    ".json",
    ".txt",
    ".md",
    ".rst",
    ".html",
    ".pdf",
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".gif",
    ".info",
    ".sha256",
    ".md5",
    ".url",
    ".log",
}
#: Ends of files that belong to the model of the same stem.
COMPANION_ENDS = (".vae.pt", ".vae.ckpt", ".vae.safetensors")
#: What marks a folder as one model.
FOLDER_MARK = "model_index.json"
#: Stems of weight files inside diffusers folders: alone they say little, so their folder gets time to arrive.
PARTS = {"diffusion_pytorch_model", "pytorch_model", "model", "flax_model", "adapter_model"}
#: Seconds without work after which the importer is let go.
IDLE_SECONDS = 30.0
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0


@dataclass
class _Order:
    """The import that runs."""

    path: Path
    signature: list[Any]
    #: When it was given, monotonic seconds.
    since: float
    #: 0 … 1, as far as the importer told.
    progress: float = 0.0


@dataclass
class _Again:
    """An import that failed for a reason that may pass."""

    count: int
    #: Monotonic seconds.
    due: float
    reason: str
    signature: list[Any] | None


@dataclass
class Intake:
    """The way of models from autoimport/ into the registry."""

    root: Root
    settings: Settings
    registry: Registry
    watch: Watch
    importer: Worker
    notifier: Notifier
    _settler: Settler = field(init=False)
    _ready: list[Path] = field(default_factory=list)
    _running: _Order | None = None
    _again: dict[Path, _Again] = field(default_factory=dict)
    _known: dict[str, list[Any]] = field(default_factory=dict)
    _idle_since: float = 0.0
    #: Wall clock of the last full scan, for the status.
    last_scan: float = 0.0
    #: The registry may say something else than before.
    changed: bool = True

    def __post_init__(self) -> None:
        self._settler = Settler(self.settings.watch.model_quiet_seconds, _proof, _signature)
        self._known = self._read_notes()

    # -- what the loop calls ---------------------------------------------------------------------------------------

    def scan(self, now: float) -> None:
        """Look at all of autoimport/: the truth that hints only hurry."""
        top = self.root.autoimport
        found: set[Path] = set()
        folders: set[Path] = set()
        for folder in self._folders(top, now):
            folders.add(folder)
            for path in _candidates(folder):
                found.add(path)
                self._see(path, now, sealed=False)
        self.watch.keep_only(top, folders)
        self._settler.keep_only(found)
        if top.is_dir():
            self._forget_gone(found)
        self.last_scan = time.time()

    def step(self, now: float) -> None:
        """Move on: what settled is ready, what is ready goes to the importer, what it says is recorded."""
        for path in self._settler.ready(now):
            if self._unit(path) == path and self._is_new(path) and path not in self._ready:
                self._ready.append(path)
        busy = {*self._ready, *([self._running.path] if self._running else [])}
        self._ready += [path for path, again in self._again.items() if again.due <= now and path not in busy]
        self._listen(now)
        self._give(now)

    def next_time(self) -> float:
        times = [self._settler.next_time(), *(again.due for again in self._again.values() if self._running is None)]
        if self._running or self._ready or self.importer.is_running():
            times.append(self.importer.next_time())
        if self._running:
            times.append(self._running.since + self.settings.import_.timeout_seconds)
        elif self.importer.is_running():
            times.append(self._idle_since + IDLE_SECONDS)
        return min(times)

    @property
    def is_idle(self) -> bool:
        """Nothing arrives, nothing is imported, nothing is to be tried soon."""
        return not (len(self._settler) or self._ready or self._running)

    @property
    def importing(self) -> int:
        return len(self._ready) + (self._running is not None)

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
        self.importer.end()

    # -- arrivals --------------------------------------------------------------------------------------------------

    def _folders(self, top: Path, now: float) -> Iterator[Path]:
        """The folders of the tree, watched before they are listed; folders that are models are not entered."""
        visited: set[tuple[int, int]] = set()
        to_do = [top]
        while to_do:
            folder = to_do.pop()
            with suppress(OSError):
                status = folder.stat()
                if (status.st_dev, status.st_ino) in visited:
                    continue
                visited.add((status.st_dev, status.st_ino))
                self.watch.add(folder, now, top=self.root.autoimport)
                yield folder
                to_do += [
                    Path(entry.path) for entry in _entries(folder) if entry.is_dir() and not is_ignored(entry.name)
                ]

    def look(self, path: Path, sealed: bool, now: float) -> None:
        """Something happened to a path below autoimport/."""
        unit = self._unit(path)
        if unit is None:
            return
        if unit == path and path.is_dir():
            for folder in self._folders(path, now):
                for candidate in _candidates(folder):
                    self._see(candidate, now, sealed=False)
            if not (path / FOLDER_MARK).exists():
                return
        for model in _models_of(unit):
            self._see(model, now, sealed and model == path)

    def _unit(self, path: Path) -> Path | None:
        """What a touched path is part of: a model folder above it, or itself; None for what never is a drop."""
        for folder in path.parents:
            if folder == self.root.autoimport:
                break
            if (folder / FOLDER_MARK).exists():
                return folder
        if marks_unfinished(path.name):
            return path.with_suffix("")
        return None if is_ignored(path.name) else path

    def _see(self, path: Path, now: float, sealed: bool) -> None:
        if path in self._ready or (self._running and self._running.path == path):
            return
        if self._is_new(path):
            self._settler.see(path, now, sealed and path.stem not in PARTS)
        else:
            self._settler.forget(path)

    def _is_new(self, path: Path) -> bool:
        """Whether it was not looked at as it is now, or its converted copy is gone."""
        signature = _note_of(path)
        if signature is None:
            return False
        again = self._again.get(path)
        if again is not None:
            return again.signature != signature
        if self._known.get(str(path)) != signature:
            return True
        entry = self.registry.by_source(path)
        return entry is not None and entry.status == "missing"

    def _forget_gone(self, found: set[Path]) -> None:
        """Verdicts on files that are gone go with them; converted models stay."""
        top = f"{self.root.autoimport}{os.sep}"
        for entry in self.registry.models():
            is_verdict = entry.status in ("unknown", "rejected") and entry.source.startswith(top)
            if is_verdict and not os.path.lexists(entry.source):
                self._edit_registry(lambda name=entry.name: self.registry.remove(name))
        gone = [path for path in self._known if Path(path) not in found and not os.path.lexists(path)]
        for path in gone:
            del self._known[path]
            self._again.pop(Path(path), None)
        if gone:
            self._write_notes()

    # -- the importer ----------------------------------------------------------------------------------------------

    def _give(self, now: float) -> None:
        if self._running is None and self._ready and self.importer.start(now) and self.importer.is_ready:
            path = self._ready.pop(0)
            signature = _note_of(path)
            if signature is None:
                return
            self._running = _Order(path, signature, now)
            verify = self.settings.import_.after_import == "delete"
            self.importer.send({"order": "import", "path": str(path), "root": str(self.root.path), "verify": verify})
            events.info("model.importing", path=path)
        elif self._running is None and self.importer.is_ready and now - self._idle_since > IDLE_SECONDS:
            self.importer.order_stop()
            self.importer.end(patience=1.0)

    def _listen(self, now: float) -> None:
        said, death = self.importer.listen(now)
        for message in said:
            self._take(message, now)
        running = self._running
        if death is not None and running is not None:
            self._running = None
            self._try_again(running.path, f"The importer died over it: {death}.", now, costs=not death.is_foreign)
        elif running is not None and now - running.since > self.settings.import_.timeout_seconds:
            self.importer.end()
            self._running = None
            limit = self.settings.import_.timeout_seconds
            self._try_again(running.path, f"The import took longer than {limit:.0f} s.", now, costs=True)

    def _take(self, message: Message, now: float) -> None:
        running = self._running
        if running is None or message.get("path") != str(running.path):
            return
        kind = message.get("event")
        if kind == "progress":
            running.progress = message["done"] / max(1, message["of"])
            return
        if kind not in ("imported", "verdict"):
            return
        self._running, self._idle_since = None, now
        self.importer.achieved()
        if kind == "imported":
            self._register(running, message["entry"])
        elif message.get("temporary"):
            self._try_again(running.path, message["reason"], now, costs=False)
        else:
            self._record_verdict(running, message)

    def _register(self, order: _Order, fields: Mapping[str, Any]) -> None:
        entry = Entry(**{**fields, "trigger_phrases": tuple(fields.get("trigger_phrases", ()))})
        name = self._edit_registry(lambda: self.registry.add(entry))
        if name is None:
            self._try_again(order.path, "The registry could not be written.", self._idle_since, costs=False)
            return
        self._settled(order)
        events.info("model.imported", name=name, path=order.path, base=entry.base, type=entry.type)
        self.notifier.tell("model_imported", name=name, path=str(order.path), base=entry.base, type=entry.type)
        if self.settings.import_.after_import == "delete":
            self._delete_original(order, entry)

    def _record_verdict(self, order: _Order, message: Message) -> None:
        state, reason = message["state"], message["reason"]
        identity = Identity(**message["identity"]) if message.get("identity") else None
        entry = Entry(
            name=order.path.stem,
            path=str(order.path),
            format=identity.format if identity else "unknown",
            type=identity.type if identity else "unknown",
            base=identity.base if identity else "unknown",
            source=str(order.path),
            status=state,
            reason=" ".join([reason, *(f"Not {family}: {why}." for family, why in message.get("nearest", []))]),
        )
        if self._edit_registry(lambda: self.registry.add(entry)) is None:
            self._try_again(order.path, "The registry could not be written.", self._idle_since, costs=False)
            return
        self._settled(order)
        events.warning(f"model.{state}", path=order.path, reason=reason)
        self.notifier.tell("model_rejected", path=str(order.path), state=state, reason=reason)

    def _settled(self, order: _Order) -> None:
        self._again.pop(order.path, None)
        self._known[str(order.path)] = order.signature
        self._write_notes()

    def _try_again(self, path: Path, reason: str, now: float, costs: bool) -> None:
        """Later, ever more rarely; a file that kills the importer every time is rejected in the end."""
        before = self._again.pop(path, None)
        count = before.count + 1 if before else 1
        self._idle_since = now
        if costs and count >= self.settings.limits.attempts:
            order = _Order(path, _note_of(path) or [], now)
            self._record_verdict(
                order, {"state": "rejected", "reason": f"{path}: {reason} It was tried {count} times."}
            )
            return
        due = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (count - 1))
        self._again[path] = _Again(count, due, reason, _note_of(path))
        events.warning("model.try_again", path=path, reason=reason, tries=count)

    def _delete_original(self, order: _Order, entry: Entry) -> None:
        """Only what has a converted copy in the store, and only as it was when it was converted; no links."""
        in_store = Path(entry.path).is_relative_to(self.root.models) and Path(entry.path).is_dir()
        if in_store and not order.path.is_symlink() and _note_of(order.path) == order.signature:
            order.path.unlink(missing_ok=True)
            events.info("model.original_deleted", path=order.path)

    def _edit_registry(self, change: Any) -> Any:
        """Change the registry; None, and a problem in the log, when its file cannot be changed now."""
        self.changed = True
        try:
            return change()
        except (ModelError, OSError) as error:
            events.error("registry.not_changed", reason=str(error))
            return None

    # -- notes -----------------------------------------------------------------------------------------------------

    @property
    def _notes_file(self) -> Path:
        return self.root.state / "intake.json"

    def _read_notes(self) -> dict[str, list[Any]]:
        try:
            notes = json.loads(self._notes_file.read_bytes())
        except (OSError, ValueError):
            return {}
        return {str(path): list(note) for path, note in notes.items()} if isinstance(notes, dict) else {}

    def _write_notes(self) -> None:
        with suppress(OSError):
            text = json.dumps(self._known, indent=0)
            files.write_atomically(self._notes_file, text.encode("utf-8", "surrogateescape"), durable=False)


def is_companion(path: Path) -> bool:
    """Whether a file belongs to the model of the same stem beside it."""
    lower = path.name.lower()
    return any(lower.endswith(end) and _has_model(path, len(path.name) - len(end)) for end in COMPANION_ENDS)


def _has_model(path: Path, stem_length: int) -> bool:
    stem = path.name[:stem_length]
    return any(path.with_name(stem + suffix).exists() for suffix in (".safetensors", ".ckpt", ".pt", ".bin"))


def _candidates(folder: Path) -> Iterator[Path]:
    """The drops directly in a folder: itself when it is a model, else the files that may be one."""
    if (folder / FOLDER_MARK).exists():
        yield folder
        return
    if any((above / FOLDER_MARK).exists() for above in list(folder.parents)[:4]):
        return
    for entry in _entries(folder):
        path = Path(entry.path)
        if _may_be_model(path) and entry.is_file():
            yield path


def _may_be_model(path: Path) -> bool:
    return not is_ignored(path.name) and path.suffix.lower() not in NO_MODELS and not is_companion(path)


def _models_of(path: Path) -> Iterator[Path]:
    """The models that a touched file is about: itself, or those whose sidecar or companion it is."""
    if path.is_dir() or (_may_be_model(path) and is_regular(path)):
        yield path
        return
    stem = path.name.lower()
    for end in COMPANION_ENDS:
        stem = stem.removesuffix(end)
    stem = stem.removesuffix(path.suffix.lower())
    for other in _entries(path.parent):
        candidate = Path(other.path)
        if candidate.stem.lower() == stem and _may_be_model(candidate) and other.is_file():
            yield candidate


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _signature(path: Path) -> Signature:
    return Signature.of_folder(path) if path.is_dir() else Signature.of(path)


def _note_of(path: Path) -> list[Any] | None:
    """What was looked at: the signatures of a model and of its sidecar. None when it is gone."""
    sidecar = path.with_name(f"{path.name if path.is_dir() else path.stem}.toml")
    try:
        own = list(_signature(path))
    except OSError:
        return None
    with suppress(OSError):
        return [own, list(Signature.of(sidecar))]
    return [own, None]


def _proof(path: Path) -> Proof:
    state: Proof = proof(path)[0]
    return state
