"""Arrivals: what is dropped into the inbox becomes queued jobs, or fails with an error file. Called by `jobs`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from invokeai_daemon.daemon.drops import KINDS, Reading, pictures_quoted, read_drop
from invokeai_daemon.daemon.guard import Guard, fault
from invokeai_daemon.daemon.guests import Guests
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.outcomes import Outcomes
from invokeai_daemon.daemon.pictures import Place
from invokeai_daemon.daemon.planning import Planner
from invokeai_daemon.daemon.queue import Queue
from invokeai_daemon.daemon.settle import Proof, Settler, Signature, is_ignored, is_regular
from invokeai_daemon.daemon.watch import Watch
from invokeai_daemon.job.schema import Job
from invokeai_daemon.output.looking import SUFFIXES
from invokeai_daemon.root import STATES, Root
from invokeai_daemon.settings import Settings
from invokeai_daemon.spool.names import parse_queued
from invokeai_daemon.spool.spool import Spool, Ticket

#: Drops that one step takes in, so that workers and the service manager do not wait for a flood.
BATCH = 64


class Arrivals:
    """The drops of one inbox that are no jobs yet."""

    def __init__(
        self,
        root: Root,
        settings: Settings,
        spool: Spool,
        planner: Planner,
        queue: Queue,
        outcomes: Outcomes,
        watch: Watch,
    ) -> None:
        self._root, self._spool, self._planner, self._queue = root, spool, planner, queue
        self._outcomes, self._watch = outcomes, watch
        self._job_bytes = settings.limits.job_bytes
        #: A drop over which something of ours goes wrong is left alone until it changes.
        self.guard = Guard(self._leave_alone)
        self.settler = Settler(settings.watch.job_quiet_seconds, self._proof, guard=self.guard)
        self.guests = Guests(root, planner.pictures, settings.watch.job_quiet_seconds, self._own_places)
        self._readings: dict[Path, Reading] = {}
        #: Pictures that are no jobs, as they were when that was found.
        self._mere: dict[Path, Signature] = {}
        #: What lies in the inbox and is none of its business, each with why.
        self._odd: dict[Path, str] = {}

    def scan(self, now: float) -> None:
        """Look at the whole inbox, at dropped folders, and at what a user put into queued/ by hand."""
        found = {*self._drops(self._root.inbox, now), *(path for path in self._spool.strangers() if _is_stranger(path))}
        for path in found:
            self.settler.see(path, now)
        self.settler.keep_only(found)
        self._readings = {path: reading for path, reading in self._readings.items() if path in found}
        self._odd = {path: text for path, text in self._odd.items() if os.path.lexists(path)}
        self._mere = {path: seen for path, seen in self._mere.items() if path in self._odd}
        for path in self.guests.stirred():
            self.settler.again(path, now, sealed=False)

    def look(self, path: Path, sealed: bool, now: float) -> None:
        """Something happened to a path in the inbox or in a dropped folder."""
        with self.guard.over(path):
            for drop in self._drops_at(path, now):
                self.settler.see(drop, now, sealed)
            for drop in self.guests.waiting_for(path):
                self.settler.again(drop, now, sealed)

    def look_at_stranger(self, path: Path, sealed: bool, now: float) -> None:
        """A file that a user put straight into queued/ is a drop, too."""
        if _is_stranger(path):
            self.settler.see(path, now, sealed)

    def step(self, now: float) -> None:
        """Take in what settled."""
        for path in self.settler.ready(now, BATCH):
            with self.guard.over(path):
                self._take_in(path, now)
        for path in self.guests.leave(now, self._arriving_jobs()):
            self._remove_if_empty(path.parent)

    def next_time(self) -> float:
        """When `step` should be called next; infinity when nothing arrives."""
        return min(self.settler.next_time(), self.guests.next_time())

    @property
    def is_settled(self) -> bool:
        return not (len(self.settler) or len(self.guests))

    def take_apart(self, ticket: Ticket, places: Sequence[Place] = ()) -> None:
        """Make the jobs of a picture or a list, each under a name of its own, so that doing it again adds nothing."""
        try:
            self._take_apart(ticket, places)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001
            # It is out of the inbox already, and every start would meet it again.
            events.exception("drop.fault", path=ticket.path)
            self._outcomes.fail(ticket, f"{self._outcomes.shown(ticket.path)}: {fault(error)}")

    def _take_apart(self, ticket: Ticket, places: Sequence[Place]) -> None:
        reading = read_drop(ticket.path, self._outcomes.shown(ticket.path), self._job_bytes)
        if reading.error:
            self._outcomes.fail(ticket, reading.error)
            return
        for number, (text, job) in enumerate(reading.jobs, start=1):
            added = self._spool.add(_own_id(ticket.id, number, reading), text, self._planner.priority(job))
            if added is not None:
                self._queue.enter(added, job, places=places)
        self._spool.sync()
        self._spool.finish(ticket)

    def problems(self, now: float) -> Iterator[tuple[str, str]]:
        """What is wrong and where: pairs of a sentence and a path."""
        for path, text in self._odd.items():
            yield text, self._outcomes.shown(path)
        for path, awaited in self.settler.pending(now, longer_than=60.0):
            yield awaited, self._outcomes.shown(path)

    # -- finding ---------------------------------------------------------------------------------------------------

    def _drops(self, folder: Path, now: float) -> Iterator[Path]:
        """The drops in a folder of the inbox, and in folders dropped there."""
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            return
        for entry in entries:
            with self.guard.over(Path(entry.path)):
                yield from self._drops_at(Path(entry.path), now)

    def _drops_at(self, path: Path, now: float) -> Iterator[Path]:
        if is_ignored(path.name) or (path.parent == self._root.inbox and path.name in (*STATES, "PAUSE")):
            return
        if path.is_dir() and not path.is_symlink():
            self._watch.add(path, now, top=self._root.inbox)
            yield from self._drops(path, now)
        elif not is_regular(path):
            if os.path.lexists(path):
                self._leave_alone(path, "is no regular file, so it is left alone")
        elif path.suffix.lower() not in (*KINDS, *SUFFIXES):
            self._leave_alone(path, f"is left alone: the inbox takes {', '.join(KINDS)} and folders of these")
        elif not self.guard.passes_over(path) and not self._is_known_picture(path):
            self._odd.pop(path, None)
            yield path

    def _is_known_picture(self, path: Path) -> bool:
        if path in self._mere and self._mere[path] != Signature.of(path):
            del self._mere[path]
        return path in self._mere or self.guests.is_taken(path)

    def _leave_alone(self, path: Path, why: str) -> None:
        if path not in self._odd:
            self._odd[path] = why
            events.warning("drop.left_alone", path=path, reason=why)

    def _proof(self, path: Path) -> Proof:
        """A drop that reads well is complete, with all its pictures; one that does not may still be growing.

        A picture may be named by a job that comes after it.
        """
        if path.suffix.lower() in SUFFIXES:
            return "unknown"
        try:
            reading = self._readings[path] = read_drop(path, self._outcomes.shown(path), self._job_bytes)
        except OSError:
            return "unknown"
        jobs = tuple(job for _, job in reading.jobs)
        self.guests.learn(path, jobs)
        if self.guests.awaits(path, jobs):
            return "incomplete"
        return "complete" if jobs else "unknown"

    # -- taking in -------------------------------------------------------------------------------------------------

    def _take_in(self, path: Path, now: float) -> None:
        """A settled drop: into the queue, or into failed/ with its error."""
        try:
            if path.suffix.lower() in SUFFIXES:
                self._take_picture(path, now)
            else:
                self._take_jobs(path, now)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._leave_alone(path, f"cannot be taken in: {error.strerror or error}")
        self._remove_if_empty(path.parent)

    def _take_jobs(self, path: Path, now: float) -> None:
        reading = self._read_again(path)
        jobs = tuple(job for _, job in reading.jobs)
        if self.guests.is_growing(path, jobs):
            self.settler.see(path, now)
            return
        if reading.error:
            self._reject(path, reading, now)
        elif path.suffix.lower() == ".toml":
            self._accept(path, reading, now)
        else:
            self._set_aside(path, reading, now)
        self.guests.forget(path)

    def _take_picture(self, path: Path, now: float) -> None:
        """A picture that no job names is made again as its record says; without a record it stays where it is."""
        if self.guests.is_guest(path):
            return
        top = self.guests.top(path)
        if top != self._root.inbox and any(self.guests.top(job) == top for job in self._arriving_jobs()):
            # One of them may name it.
            self.settler.see(path, now)
            return
        reading = self._read_again(path) if path.suffix.lower() in KINDS else None
        if reading is not None and reading.jobs:
            self._set_aside(path, reading, now)
        elif reading is not None and not reading.is_mere:
            self._outcomes.reject(path, self._stem(path), reading.error)
        else:
            self._mere[path] = Signature.of(path)
            why = "is a picture that no job names, and does not say how it was made"
            self._leave_alone(path, f"{why}. Drop a job that names it, or remove it")

    def _reject(self, path: Path, reading: Reading, now: float) -> None:
        """A file that is no job, and the pictures beside it that it seems to name: it may come back corrected."""
        names = pictures_quoted(path)
        pictures = self._planner.keep_beside(names, self._spool.free_id(self._stem(path)), path.parent) if names else []
        with self.guests.taken(pictures, now):
            self._outcomes.reject(path, self._stem(path), reading.error)

    def _accept(self, path: Path, reading: Reading, now: float) -> None:
        job, job_id = reading.jobs[0][1], self._spool.free_id(self._stem(path))
        pictures = self._planner.keep_pictures(job, job_id, path.parent)
        with self.guests.taken(pictures, now):
            ticket = self._spool.accept(path, job_id, self._planner.priority(job))
        self._queue.enter(ticket, job, reading.signature, places=[path.parent])

    def _set_aside(self, path: Path, reading: Reading, now: float) -> None:
        job_id, pictures = self._spool.free_id(self._stem(path)), []
        for number, (_, job) in enumerate(reading.jobs, start=1):
            pictures += self._planner.keep_pictures(job, _own_id(job_id, number, reading), path.parent)
        with self.guests.taken(pictures, now):
            ticket = self._spool.set_aside(path, job_id)
        self.take_apart(ticket, [path.parent])

    def _own_places(self, path: Path, job: Job) -> list[Place]:
        return self._planner.own_places(job, self._spool.free_id(self._stem(path)))

    def _arriving_jobs(self) -> list[Path]:
        return [path for path in self.settler.paths() if path.suffix.lower() not in SUFFIXES]

    def _read_again(self, path: Path) -> Reading:
        reading = self._readings.pop(path, None)
        if reading is None or reading.signature != Signature.of(path):
            return read_drop(path, self._outcomes.shown(path), self._job_bytes)
        return reading

    def _stem(self, path: Path) -> str:
        """`set/a.toml` is job set-a; `set/set.toml` and `set/job.toml` are job set."""
        if path.parent == self._root.state_folder("queued"):
            return path.stem
        if path.parent != self._root.inbox and path.stem in ("job", path.parent.name):
            path = path.parent.with_name(f"{path.parent.name}.toml")
        return "-".join(path.relative_to(self._root.inbox).with_suffix("").parts)

    def _remove_if_empty(self, folder: Path) -> None:
        """A dropped folder goes when its last drop was taken."""
        while folder.parent.is_relative_to(self._root.inbox) and folder.name not in STATES:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


def _own_id(drop_id: str, number: int, reading: Reading) -> str:
    """The id of a job that a drop asks for."""
    return drop_id if len(reading.jobs) == 1 else f"{drop_id}-{number:04}"


def _is_stranger(path: Path) -> bool:
    is_named_by_us = parse_queued(path.name) is not None
    return path.suffix == ".toml" and not is_named_by_us and not is_ignored(path.name) and is_regular(path)
