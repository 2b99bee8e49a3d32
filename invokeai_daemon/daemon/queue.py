"""Queue: the jobs that are valid and not begun, in queued/ and waiting/. Called by `arrivals` and `jobs`.

Files are the truth: a person may edit, add, rename and delete them, and the memory here follows.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from invokeai_daemon.daemon.drops import read_job
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.outcomes import Outcomes, explained
from invokeai_daemon.daemon.pictures import Place
from invokeai_daemon.daemon.planning import Planner
from invokeai_daemon.daemon.room import DiskRoom
from invokeai_daemon.daemon.settle import Proof, Settler, Signature, is_ignored
from invokeai_daemon.errors import JobError, ModelMissing
from invokeai_daemon.job.schema import Job
from invokeai_daemon.settings import Settings
from invokeai_daemon.spool.names import parse_queued
from invokeai_daemon.spool.spool import Spool, Ticket

#: Queued files that one step reads to learn how many images they ask for, after a start.
READ_AHEAD = 20
#: Parsed jobs kept in memory; others are read again when they are claimed.
MOST_PARSED = 512
#: Edited files that one step takes.
BATCH = 64


@dataclass
class _Known:
    """What is known of a job in queued/ or waiting/."""

    signature: Signature | None
    images: int
    #: None when it was dropped from memory.
    job: Job | None


class Queue:
    """The queued and waiting jobs of one root."""

    def __init__(self, settings: Settings, spool: Spool, planner: Planner, outcomes: Outcomes, room: DiskRoom) -> None:
        self._spool, self._planner, self._outcomes, self._room = spool, planner, outcomes, room
        self._job_bytes = settings.limits.job_bytes
        self.edits = Settler(settings.watch.job_quiet_seconds, self._edit_proof)
        self.waiting: dict[str, Ticket] = {}
        #: Waiting jobs that need nothing but room on the disk.
        self.for_room: set[str] = set()
        self._known: dict[str, _Known] = {}
        #: Ids whose parsed job is in memory, oldest first.
        self._parsed: dict[str, None] = {}
        self._order: list[tuple[tuple[int, int], str]] = []
        self._unread: list[str] = []

    # -- entering and leaving --------------------------------------------------------------------------------------

    def enter(self, ticket: Ticket, job: Job, signature: Signature | None = None, places: Sequence[Place] = ()) -> None:
        """A valid job is in queued/: keep it there if it can run, or let it wait or fail.

        `places` are those where its pictures were looked for.
        """
        self._learn(ticket.id, job, signature or Signature.at(ticket.path))
        try:
            self._planner.plan(job, ticket.id, seed=lambda: 0, places=places)
        except ModelMissing as error:
            self.wait(ticket, str(error))
        except JobError as error:
            self.fail(ticket, error)
        else:
            heapq.heappush(self._order, (ticket.order, ticket.id))
            events.info("job.queued", job=ticket.id, priority=ticket.priority)

    def head(self) -> Ticket | None:
        """The queued job that runs next."""
        while self._order:
            order, job_id = self._order[0]
            ticket = self._spool.queued(job_id)
            if ticket is not None and ticket.order == order:
                return ticket
            heapq.heappop(self._order)
        return None

    def leave(self, ticket: Ticket) -> None:
        """A job is claimed or gone: forget it."""
        self._known.pop(ticket.id, None)
        self._parsed.pop(ticket.id, None)
        self.for_room.discard(ticket.id)
        self.waiting.pop(ticket.id, None)

    def skip(self, ticket: Ticket) -> None:
        """The head of the queue cannot be read now; it comes back when its file is heard of again, or with a scan."""
        self._spool.touched(ticket.path)
        if self._order and self._order[0] == (ticket.order, ticket.id):
            heapq.heappop(self._order)

    def wait(self, ticket: Ticket, why: str, for_room: bool = False) -> None:
        """Let a job wait; `for_room` when nothing but room on the disk is missing."""
        waiting = self._spool.wait(ticket, why)
        self.waiting[waiting.id] = waiting
        if for_room:
            self.for_room.add(waiting.id)
        if ticket.state != "waiting":
            events.info("job.waiting", job=waiting.id, why=why)

    def fail(self, ticket: Ticket, error: JobError) -> None:
        self.leave(ticket)
        self._outcomes.fail(ticket, explained(f"inbox/{ticket.id}{ticket.path.suffix}", error))

    def job_of(self, ticket: Ticket) -> Job | None:
        """The job in a file, read again only if it changed; None when it is gone or wrong, which is recorded then."""
        known = self._known.get(ticket.id)
        if known is not None and known.job is not None and known.signature == Signature.at(ticket.path):
            return known.job
        read = self._read(ticket)
        if read is None:
            return None
        self._learn(ticket.id, read[1], read[0])
        return read[1]

    @property
    def images(self) -> int:
        """Images that queued and waiting jobs ask for, as far as they were read."""
        return sum(known.images for known in self._known.values())

    # -- following the folders -------------------------------------------------------------------------------------

    def scan(self, now: float) -> None:
        """Read both folders again."""
        self._scan_queued(now)
        self._scan_waiting(now)

    def look_at_queued(self, path: Path, sealed: bool, now: float) -> None:
        """Something happened to a file that the spool named."""
        ticket = self._spool.touched(path)
        if ticket is None:
            self._follow_removal(path)
            return
        known = self._known.get(ticket.id)
        if known is not None and known.signature == Signature.at(path):
            heapq.heappush(self._order, (ticket.order, ticket.id))
        else:
            self.edits.see(path, now, sealed)

    def look_at_waiting(self, path: Path, sealed: bool, now: float) -> None:
        ticket = self._spool.touched(path)
        if ticket is None:
            gone = self.waiting.get(path.stem)
            if gone is not None and gone.path == path:
                self._user_removed(gone)
            return
        known = self._known.get(ticket.id)
        if known is None or known.signature != Signature.at(path):
            self.edits.see(path, now, sealed)

    def step(self, now: float) -> None:
        """Take edits that settled, and read on in a queue that was there before this start."""
        for path in self.edits.ready(now, BATCH):
            self._take_edit(path)
        for _ in range(min(READ_AHEAD, len(self._unread))):
            ticket = self._spool.queued(self._unread.pop())
            if ticket is not None:
                self.job_of(ticket)

    def next_time(self, now: float) -> float:
        return now if self._unread else self.edits.next_time()

    def recheck_waiting(self) -> None:
        """Queue the waiting jobs whose need is met. Called when the registry or the disk changed."""
        for ticket in list(self.waiting.values()):
            if ticket.id not in self.for_room or not self._room.is_low:
                self._recheck(ticket)

    def _recheck(self, ticket: Ticket) -> None:
        job = self.job_of(ticket)
        if job is None:
            return
        try:
            self._planner.plan(job, ticket.id, seed=lambda: 0)
        except ModelMissing as error:
            self.for_room.discard(ticket.id)
            self.wait(ticket, str(error))
        except JobError as error:
            self.fail(ticket, error)
        else:
            self._requeue(ticket, job)

    def _requeue(self, ticket: Ticket, job: Job) -> None:
        try:
            moved = self._spool.requeue(ticket, self._planner.priority(job))
        except FileNotFoundError:
            self.leave(ticket)
            return
        self.leave(ticket)
        self.enter(moved, job)

    def _scan_queued(self, now: float) -> None:
        queued = self._spool.look_at_queue()
        self._order = [(ticket.order, job_id) for job_id, ticket in queued.items()]
        heapq.heapify(self._order)
        for job_id in self._known.keys() - queued.keys() - self.waiting.keys():
            self._known.pop(job_id)
            self._parsed.pop(job_id, None)
        for job_id, ticket in queued.items():
            known = self._known.get(job_id)
            if known is None:
                self._unread.append(job_id)
            elif known.signature != Signature.at(ticket.path):
                self.edits.see(ticket.path, now)

    def _scan_waiting(self, now: float) -> None:
        found = {ticket.id: ticket for ticket in self._spool.jobs("waiting")}
        for job_id in self.waiting.keys() - found.keys():
            self._user_removed(self.waiting[job_id])
        for job_id, ticket in found.items():
            known = self._known.get(job_id)
            self.waiting.setdefault(job_id, ticket)
            if known is not None and known.signature != Signature.at(ticket.path):
                self.edits.see(ticket.path, now)

    def _follow_removal(self, path: Path) -> None:
        """A queued file is gone from its path: claimed, renamed, or removed by the user."""
        name = parse_queued(path.name)
        if name is None or self._spool.queued(name.id) is not None or name.id in self.waiting:
            return
        if self._known.pop(name.id, None) is not None:
            self._parsed.pop(name.id, None)
            events.info("job.removed", job=name.id, state="queued")

    def _user_removed(self, ticket: Ticket) -> None:
        self.leave(ticket)
        self._spool.forget(ticket)
        events.info("job.removed", job=ticket.id, state="waiting")

    # -- reading ---------------------------------------------------------------------------------------------------

    def _edit_proof(self, path: Path) -> Proof:
        try:
            read_job(path, self._outcomes.shown(path), self._job_bytes)
        except (OSError, JobError):
            return "unknown"
        return "complete"

    def _take_edit(self, path: Path) -> None:
        """A queued or waiting job was edited: its place may change, or it may be wrong now."""
        ticket = self._spool.touched(path)
        if ticket is not None and not is_ignored(path.name):
            job = self.job_of(ticket)
            if job is not None:
                self._requeue(ticket, job)

    def _read(self, ticket: Ticket) -> tuple[Signature, Job] | None:
        shown = self._outcomes.shown(ticket.path)
        try:
            return read_job(ticket.path, shown, self._job_bytes)
        except JobError as error:
            self.fail(ticket, error)
        except FileNotFoundError:
            self.leave(ticket)
        except BlockingIOError:
            # Somebody writes to it: the end of that will be heard.
            return None
        except OSError as error:
            self.leave(ticket)
            self._outcomes.fail(ticket, f"{shown} could not be read: {error.strerror or error}.\n")
        return None

    def _learn(self, job_id: str, job: Job, signature: Signature | None) -> None:
        self._known[job_id] = _Known(signature, self._planner.image_count(job), job)
        self._parsed[job_id] = None
        if len(self._parsed) > MOST_PARSED:
            oldest = next(iter(self._parsed))
            del self._parsed[oldest]
            if oldest in self._known:
                self._known[oldest].job = None
