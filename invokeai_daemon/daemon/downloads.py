"""Downloads: what the requests in autoimport/ ask for is fetched by the downloader. Called by the loop.

A request is a file that a user put there (`models/install/requests`): it is read, never changed or removed, and taking
it away cancels what it asks for. What came of it is noted in `.state/downloads.json` by its content, so that a start
fetches nothing twice. What fails for a reason that may pass is tried again, ever more rarely, and never given up.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invokeai_daemon import files
from invokeai_daemon.daemon.intake.tree import Tree
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.notify import Notifier
from invokeai_daemon.daemon.settle import Proof, Settler, is_ignored
from invokeai_daemon.daemon.supervise import Worker
from invokeai_daemon.errors import DaemonError
from invokeai_daemon.models.install.names import MODEL_SUFFIXES
from invokeai_daemon.models.install.requests import MAX_BYTES, SUFFIXES, Request, read_request
from invokeai_daemon.models.install.sources import shown
from invokeai_daemon.models.install.staging import FOLDER, discard_forgotten
from invokeai_daemon.models.install.starters import parser_of
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from invokeai_daemon.workers.protocol import Message

FIRST_PAUSE, LONGEST_PAUSE = 15.0, 900.0
#: Seconds without work after which the downloader is let go.
IDLE_SECONDS = 30.0
#: Downloads that the status lists.
MOST_SHOWN = 50

#: What became of a source: {"state": "installed", "paths": […]} or {"state": "failed", "reason": "…"}.
Result = dict[str, Any]


@dataclass
class _Task:
    """One source of a request."""

    source: str
    order: Message
    #: None while it is to be fetched.
    result: Result | None = None
    tries: int = 0
    #: Monotonic seconds before which it is not tried.
    due: float = 0.0
    #: Why the last try failed.
    reason: str = ""


@dataclass
class _Running:
    """The download that runs."""

    task: _Task
    request: Path
    key: int
    since: float
    file: str = ""
    done: int = 0
    of: int | None = None
    #: Bytes that had come when its speed was first taken, and when that was.
    start: tuple[int, float] | None = None
    speed: float | None = None


@dataclass
class _Asked:
    """A request as it was read."""

    digest: str
    tasks: list[_Task] = field(default_factory=list)
    #: Why it cannot be followed; empty when it can.
    mistake: str = ""


class Downloads:
    """The requests of one root."""

    def __init__(
        self,
        root: Root,
        settings: Settings,
        worker: Worker,
        notifier: Notifier,
        arrived: Callable[[Path, bool, float], None],
    ) -> None:
        self.root, self.settings, self.worker, self.notifier = root, settings, worker, notifier
        #: Tells the intake of what came.
        self._arrived = arrived
        self._tree = Tree(root.autoimport)
        self._settler = Settler(settings.watch.job_quiet_seconds, _unproven)
        self._asked: dict[Path, _Asked] = {}
        self._running: _Running | None = None
        self._last_key = 0
        self._idle_since = 0.0
        self._notes = self._read_notes()

    # -- what the loop calls ---------------------------------------------------------------------------------------

    def scan(self, now: float) -> None:
        """Look at all of autoimport/ for requests."""
        if not self.settings.install.drops:
            return
        found: set[Path] = set()
        for listing in self._tree.walk(self.root.autoimport, lambda folder: None):
            for name in listing.names:
                if name.lower().endswith(SUFFIXES) and not is_ignored(name):
                    path = listing.folder / name
                    if path in self._asked or self._may_ask(path, listing.names):
                        found.add(path)
                        self._see(path, now, sealed=False)
            if FOLDER in listing.names:
                discard_forgotten(listing.folder)
        self._settler.keep_only(found)
        for path in [path for path in self._asked if not os.path.lexists(path)]:
            self._forget(path)

    def look(self, path: Path, sealed: bool, now: float) -> None:
        """Something happened to a path below autoimport/."""
        if not (self.settings.install.drops and path.name.lower().endswith(SUFFIXES)) or is_ignored(path.name):
            return
        if not os.path.lexists(path):
            self._forget(path)
        elif path in self._asked or self._may_ask(path, None):
            self._see(path, now, sealed)

    def step(self, now: float) -> None:
        """Move on: read what settled, hear the downloader, give it the next."""
        for path in self._settler.ready(now):
            self._read(path)
        self._listen(now)
        self._give(now)

    def next_time(self, now: float) -> float:
        times = [self._settler.next_time()]
        dues = [task.due for _, task in self._to_do()] if self._running is None else []
        times += [due for due in dues if due > now]
        if self.worker.is_running() or self._running is not None or any(due <= now for due in dues):
            times.append(self.worker.next_time())
        if self._running is None and self.worker.is_running():
            times.append(self._idle_since + IDLE_SECONDS)
        return min(times)

    def is_idle(self, now: float) -> bool:
        """Nothing arrives and nothing is fetched; what waits for its next try does not count."""
        return not len(self._settler) and self._running is None and all(task.due > now for _, task in self._to_do())

    def stop(self) -> None:
        """End the downloader; what it has stays, and the next start goes on with it."""
        self.worker.end()

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
        if self.worker.last_death:
            yield f"the downloader died: {self.worker.last_death}", "downloader"

    def shown(self, now: float) -> list[dict[str, Any]]:
        """The downloads that run or are to come, for the status."""
        running = self._running
        lines = [_shown(running)] if running else []
        for path, task in self._to_do():
            if running is None or task is not running.task:
                state = "waiting" if task.due > now else "queued"
                lines.append({"source": task.source, "request": str(path), "state": state, "reason": task.reason})
        return lines[:MOST_SHOWN]

    # -- requests --------------------------------------------------------------------------------------------------

    def _may_ask(self, path: Path, names: Collection[str] | None) -> bool:
        """Whether a file can be a request: it is in no model's folder and belongs to no model beside it."""
        names = _names(path.parent) if names is None else names
        belongs = path.stem in names or any(f"{path.stem}{suffix}" in names for suffix in MODEL_SUFFIXES)
        return not belongs and self._tree.unit(path) == path

    def _see(self, path: Path, now: float, sealed: bool) -> None:
        asked = self._asked.get(path)
        raw = _content(path) if asked is not None else None
        if asked is None or raw is None or _digest(raw) != asked.digest:
            self._settler.see(path, now, sealed)

    def _read(self, path: Path) -> None:
        raw = _content(path)
        if raw is None:
            return
        before, digest = self._asked.get(path), _digest(raw)
        if before is not None and before.digest == digest:
            return
        asked = _Asked(digest)
        try:
            request = read_request(path, raw, parser_of(self.root, self.settings.install.hub_endpoint))
        except DaemonError as error:
            asked.mistake = str(error)
            events.warning("download.refused", path=path, reason=str(error))
        else:
            if request is None:
                self._asked.pop(path, None)
                return
            asked.tasks = list(self._tasks(path, digest, request))
        self._asked[path] = asked

    def _tasks(self, path: Path, digest: str, request: Request) -> Iterator[_Task]:
        noted = self._notes.get(digest, {})
        for source in request.sources:
            order: Message = {"source": str(source), "request": str(path), "folder": self._folder(path, request)}
            if request.is_sidecar:
                order |= {"name": path.stem, "has_sidecar": True, "hash": str(request.checksum or "")}
            # Addresses may hold secrets, which neither the log nor the notes need.
            yield _Task(shown(source), order, noted.get(shown(source)))

    def _folder(self, path: Path, request: Request) -> str | None:
        """Beside the request; of one that lies in no folder it is found out."""
        is_sorted = request.is_sidecar or path.parent != self.root.autoimport
        return str(path.parent) if is_sorted else None

    def _forget(self, path: Path) -> None:
        """A request was taken away: what runs for it ends, and asking again is asking anew."""
        asked = self._asked.pop(path, None)
        self._settler.forget(path)
        if asked is None or any(other.digest == asked.digest for other in self._asked.values()):
            return
        if self._notes.pop(asked.digest, None) is not None:
            self._write_notes()

    # -- the downloader --------------------------------------------------------------------------------------------

    def _to_do(self) -> Iterator[tuple[Path, _Task]]:
        return ((path, task) for path, asked in self._asked.items() for task in asked.tasks if task.result is None)

    def _give(self, now: float) -> None:
        if self._running is not None:
            return
        ready = next(((path, task) for path, task in self._to_do() if task.due <= now), None)
        if ready is None:
            if self.worker.is_ready and now - self._idle_since > IDLE_SECONDS:
                self.worker.order_stop()
                self.worker.end(patience=1.0)
        elif self.worker.start(now) and self.worker.is_ready:
            path, task = ready
            self._last_key += 1
            self._running = _Running(task, path, self._last_key, now)
            self.worker.send({"order": "install", "key": self._last_key, **task.order})
            events.info("download.started", source=task.source, request=path)

    def _listen(self, now: float) -> None:
        said, death = self.worker.listen(now)
        for message in said:
            self._take(message, now)
        running = self._running
        if death is not None and running is not None:
            self._try_again(running, f"The downloader died over it: {death}.", now, costs=not death.is_foreign)

    def _take(self, message: Message, now: float) -> None:
        running = self._running
        if running is None or message.get("key") != running.key:
            return
        match message.get("event"):
            case "progress":
                _progress(running, message, now)
            case "installed":
                self.worker.achieved()
                self._installed(running, message["arrivals"], now)
            case "failed":
                self.worker.achieved()
                if message["temporary"]:
                    self._try_again(running, message["reason"], now, costs=False)
                else:
                    self._failed(running, message["reason"], now)

    def _installed(self, running: _Running, arrivals: list[dict[str, Any]], now: float) -> None:
        paths = [arrival["path"] for arrival in arrivals]
        self._end(running, {"state": "installed", "paths": paths}, now)
        for arrival in arrivals:
            was_there = arrival["was_there"]
            events.info("download.installed", source=running.task.source, path=arrival["path"], was_there=was_there)
            self._arrived(Path(arrival["path"]), True, now)

    def _failed(self, running: _Running, reason: str, now: float) -> None:
        if running.request not in self._asked:
            events.info("download.cancelled", source=running.task.source, request=running.request)
            self._running, self._idle_since = None, now
            return
        self._end(running, {"state": "failed", "reason": reason}, now)
        events.warning("download.failed", source=running.task.source, request=running.request, reason=reason)
        self.notifier.tell("model_rejected", path=str(running.request), state="rejected", reason=reason)

    def _try_again(self, running: _Running, reason: str, now: float, costs: bool) -> None:
        task = running.task
        task.tries += 1
        if costs and task.tries >= self.settings.limits.attempts:
            self._failed(running, f"{reason} It was tried {task.tries} times.", now)
            return
        self._running, self._idle_since = None, now
        task.reason, task.due = reason, now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (task.tries - 1))
        events.warning("download.try_again", source=task.source, reason=reason, tries=task.tries)

    def _end(self, running: _Running, result: Result, now: float) -> None:
        self._running, self._idle_since = None, now
        running.task.result = result
        asked = self._asked.get(running.request)
        if asked is not None:
            self._notes.setdefault(asked.digest, {})[running.task.source] = result
            self._write_notes()

    # -- notes -----------------------------------------------------------------------------------------------------

    @property
    def _notes_file(self) -> Path:
        return self.root.state / "downloads.json"

    def _read_notes(self) -> dict[str, dict[str, Result]]:
        """What came of requests, by the digest of their content and by source."""
        with suppress(OSError, ValueError):
            notes = json.loads(self._notes_file.read_bytes())
            if isinstance(notes, dict) and all(isinstance(note, dict) for note in notes.values()):
                return notes
        return {}

    def _write_notes(self) -> None:
        with suppress(OSError):
            files.write_atomically(self._notes_file, json.dumps(self._notes, indent=0), durable=False)


def _progress(running: _Running, message: Message, now: float) -> None:
    done, before = message["done"], running.start
    if before is None or running.file != message["file"] or done < running.done:
        running.start = (done, now)
    elif now > before[1]:
        running.speed = (done - before[0]) / (now - before[1])
    running.file, running.done, running.of = message["file"], done, message["of"]


def _shown(running: _Running) -> dict[str, Any]:
    left = running.of - running.done if running.of is not None else None
    speed = running.speed
    return {
        "source": running.task.source,
        "request": str(running.request),
        "state": "running",
        "done": running.done,
        "of": running.of,
        "bytes_per_second": round(speed) if speed is not None else None,
        "eta_s": round(left / speed) if left is not None and speed else None,
    }


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


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in files.entries(folder)}


def _unproven(path: Path) -> Proof:
    return "unknown"
