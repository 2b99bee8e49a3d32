"""Requests: the files in autoimport/ that ask for models, what they ask for, and what came of it. Used by `downloads`.

A request is a user's file (`models/install/requests`): it is read, never changed or removed. What came of it is noted
in `.state/downloads.json` by its content, so that a start fetches nothing twice, and forgotten when the file is gone,
so that asking again is asking anew. Fetches nothing itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invokeai_daemon import files
from invokeai_daemon.daemon.guard import Guard
from invokeai_daemon.daemon.intake.tree import Crowds, Tree
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.settle import Proof, Settler, Signature, is_ignored
from invokeai_daemon.daemon.slices import Slices
from invokeai_daemon.errors import DaemonError
from invokeai_daemon.models.install.names import MODEL_SUFFIXES
from invokeai_daemon.models.install.requests import MAX_BYTES, SUFFIXES, Request, read_request
from invokeai_daemon.models.install.sources import shown
from invokeai_daemon.models.install.staging import FOLDER, discard_forgotten
from invokeai_daemon.models.install.starters import parser_of
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from invokeai_daemon.workers.protocol import Message

#: What became of a source: {"state": "installed", "paths": […]} or {"state": "failed", "reason": "…"}.
Result = dict[str, Any]


@dataclass
class Task:
    """One source of a request."""

    #: The source as it may be written down.
    source: str
    #: The order for the downloader.
    order: Message
    #: None while it is to be fetched.
    result: Result | None = None
    tries: int = 0
    #: Monotonic seconds before which it is not tried.
    due: float = 0.0
    #: Why the last try failed.
    reason: str = ""


@dataclass
class Asked:
    """A request as it was read."""

    digest: str
    tasks: list[Task] = field(default_factory=list)
    #: Why it cannot be followed; empty when it can.
    mistake: str = ""


class Requests:
    """The requests of one root."""

    def __init__(self, root: Root, settings: Settings) -> None:
        self.root, self.settings = root, settings
        self._tree = Tree(root.autoimport)
        self.guard = Guard(self._fault)
        self._settler = Settler(settings.watch.job_quiet_seconds, _unproven, guard=self.guard)
        self._asked: dict[Path, Asked] = {}
        #: Files of the same endings that ask for nothing, as they were read.
        self._silent: dict[Path, Signature] = {}
        #: Whether a folder is in no model, for the files that were touched at one time.
        self._outside: dict[Path, bool] = {}
        self._turn = -1.0
        self._crowds = Crowds()
        self._scanning = Slices(self._scan)
        self._found: set[Path] = set()
        self._notes = Notes(root.state / "downloads.json")
        self._scanned = False

    def __contains__(self, path: Path) -> bool:
        return path in self._asked

    @property
    def are_arriving(self) -> bool:
        return len(self._settler) > 0 or not self._scanning.is_done

    def scan(self, now: float) -> None:
        """Look at all of autoimport/. What takes longer is gone on with in `step`."""
        self._turn_to(now)
        self._scanning.begin()

    def _scan(self) -> Iterator[None]:
        self._found = set()
        for listing in self._tree.walk(self.root.autoimport, lambda folder: None):
            for name in filter(_is_called_so, listing.names):
                path = listing.folder / name
                with self.guard.over(path):
                    if path in self._asked or self._may_ask(path, listing.names):
                        self._see(path, self._turn, sealed=False)
                yield
            if FOLDER in listing.names:
                discard_forgotten(listing.folder)
            yield
        self._settler.keep_only(self._found)
        for path in [path for path in self._asked if not os.path.lexists(path)]:
            self.forget(path)
        self._silent = {path: state for path, state in self._silent.items() if path in self._found}
        self._scanned = True

    def look(self, path: Path, sealed: bool, now: float) -> None:
        """Something happened to a path below autoimport/."""
        if not _is_called_so(path.name):
            return
        self._turn_to(now)
        with self.guard.over(path):
            if not os.path.lexists(path):
                self.forget(path)
            elif path in self._asked or self._may_ask(path, self._crowds.names(path.parent, now)):
                self._see(path, now, sealed)

    def step(self, now: float) -> None:
        """Read what settled."""
        self._turn_to(now)
        self._scanning.step()
        for path in self._settler.ready(now):
            with self.guard.over(path):
                self._read(path)
        if self._scanned and not self.are_arriving:
            self._scanned = False
            self._notes.keep_only({asked.digest for asked in self._asked.values()})

    def next_time(self) -> float:
        return self._settler.next_time() if self._scanning.is_done else 0.0

    def to_do(self) -> Iterator[tuple[Path, Task]]:
        return ((path, task) for path, asked in self._asked.items() for task in asked.tasks if task.result is None)

    def end(self, path: Path, task: Task, result: Result) -> None:
        """Write down what became of a source."""
        task.result = result
        asked = self._asked.get(path)
        if asked is not None:
            self._notes.write(asked.digest, path, task.source, result)

    def forget(self, path: Path) -> None:
        """A request was taken away."""
        asked = self._asked.pop(path, None)
        self._settler.forget(path)
        if asked is not None and not any(other.digest == asked.digest for other in self._asked.values()):
            self._notes.forget(asked.digest)

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong and where: pairs of a sentence and a path."""
        for path, asked in self._asked.items():
            if asked.mistake:
                yield asked.mistake, str(path)
            for task in asked.tasks:
                if task.result is not None and task.result["state"] == "failed":
                    yield task.result["reason"], str(path)
                elif task.result is None and task.reason:
                    yield f"{task.reason} It is tried again.", str(path)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _may_ask(self, path: Path, names: Collection[str] | None) -> bool:
        """Whether a file can be a request: it is in no model's folder and belongs to no model beside it."""
        folder, stem = path.parent, path.stem
        if folder not in self._outside:
            self._outside[folder] = self._tree.unit(path) == path
        models = (stem, *(f"{stem}{suffix}" for suffix in MODEL_SUFFIXES))
        # One folder may hold thousands of sidecars: it is not listed for each of them.
        is_there = names.__contains__ if names is not None else lambda name: os.path.lexists(f"{folder}{os.sep}{name}")
        return self._outside[folder] and not any(map(is_there, models))

    def _turn_to(self, now: float) -> None:
        if now != self._turn:
            self._turn, self._outside = now, {}

    def _fault(self, path: Path, fault: str) -> None:
        """Something of ours went wrong over a request: it is one that cannot be followed."""
        self._settler.forget(path)
        self._asked[path] = Asked("", mistake=f"{path}: {fault}")

    def _see(self, path: Path, now: float, sealed: bool) -> None:
        self._found.add(path)
        if self.guard.passes_over(path) or (path in self._silent and self._silent[path] == Signature.at(path)):
            return
        asked = self._asked.get(path)
        raw = _content(path) if asked is not None else None
        if asked is None or raw is None or _digest(raw) != asked.digest:
            self._settler.see(path, now, sealed)

    def _read(self, path: Path) -> None:
        self._silent.pop(path, None)
        state, raw = Signature.at(path), _content(path)
        before = self._asked.get(path)
        if state is None or raw is None or (before is not None and before.digest == _digest(raw)):
            return
        asked = Asked(_digest(raw))
        try:
            request = read_request(path, raw, parser_of(self.root, self.settings.install.hub_endpoint))
        except DaemonError as error:
            asked.mistake = str(error)
            events.warning("download.refused", path=path, reason=str(error))
        else:
            if request is None:
                self._asked.pop(path, None)
                self._silent[path] = state
                return
            asked.tasks = list(self._tasks(path, asked.digest, request))
        self._asked[path] = asked

    def _tasks(self, path: Path, digest: str, request: Request) -> Iterator[Task]:
        noted = self._notes.results(digest)
        # Beside the request; of one that lies in no folder it is found out.
        is_sorted = request.is_sidecar or path.parent != self.root.autoimport
        folder = str(path.parent) if is_sorted else None
        for source in request.sources:
            order: Message = {"source": str(source), "request": str(path), "folder": folder}
            if request.is_sidecar:
                order |= {"name": path.stem, "has_sidecar": True, "hash": str(request.checksum or "")}
            # Addresses may hold secrets, which neither the log nor the notes need.
            yield Task(shown(source), order, noted.get(shown(source)))


class Notes:
    """What came of requests, by the digest of their content: {digest: {"request": path, "results": {source: …}}}."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._notes: dict[str, dict[str, Any]] = {}
        with suppress(OSError, ValueError):
            found = json.loads(path.read_bytes())
            if isinstance(found, dict):
                self._notes = {digest: note for digest, note in found.items() if _is_note(note)}

    def results(self, digest: str) -> dict[str, Result]:
        results: dict[str, Result] = self._notes.get(digest, {}).get("results", {})
        return results

    def write(self, digest: str, request: Path, source: str, result: Result) -> None:
        note = self._notes.setdefault(digest, {"request": "", "results": {}})
        note["request"] = str(request)
        note["results"][source] = result
        self._save()

    def forget(self, digest: str) -> None:
        if self._notes.pop(digest, None) is not None:
            self._save()

    def keep_only(self, digests: Collection[str]) -> None:
        """Forget what came of requests that are neither known nor on the disk."""
        for digest, note in list(self._notes.items()):
            if digest not in digests and not os.path.lexists(note["request"]):
                self.forget(digest)

    def _save(self) -> None:
        with suppress(OSError):
            files.write_atomically(self._path, json.dumps(self._notes, indent=0), durable=False)


def _is_note(note: object) -> bool:
    if not isinstance(note, dict) or not isinstance(note.get("request"), str):
        return False
    results = note.get("results")
    return isinstance(results, dict) and all(
        isinstance(result, dict) and "state" in result for result in results.values()
    )


def _is_called_so(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not is_ignored(name)


def _content(path: Path) -> bytes | None:
    """A request's bytes; None for what is gone, larger than any request, or no file."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None
        return path.read_bytes()
    except OSError:
        return None


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _unproven(path: Path) -> Proof:
    return "unknown"
