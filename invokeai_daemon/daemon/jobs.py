"""Jobs: the way of a job from a drop in the inbox to its last image. Called by the loop; renders nothing itself.

arrival → settled → read → queued (or waiting, or failed) → claimed: planned, job.toml on disk → active → done, failed.
Every decision is a rename in the spool; what is kept in memory is rebuilt from the folders at each start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from invokeai_daemon.daemon.active import Active, Board
from invokeai_daemon.daemon.arrivals import Arrivals
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.notify import Notifier
from invokeai_daemon.daemon.outcomes import Outcomes
from invokeai_daemon.daemon.planning import Planner
from invokeai_daemon.daemon.queue import Queue
from invokeai_daemon.daemon.room import DiskRoom
from invokeai_daemon.daemon.watch import Watch
from invokeai_daemon.errors import JobError, ModelMissing
from invokeai_daemon.job.plan import Plan
from invokeai_daemon.job.schema import Job
from invokeai_daemon.root import STATES, Root
from invokeai_daemon.settings import Settings
from invokeai_daemon.spool import disk
from invokeai_daemon.spool.names import parse_queued
from invokeai_daemon.spool.spool import Spool, Ticket

#: Jobs that one step claims at most.
BATCH = 64


class Jobs:
    """The jobs of one root, except for what the renderer does with active ones."""

    def __init__(
        self,
        root: Root,
        settings: Settings,
        spool: Spool,
        planner: Planner,
        board: Board,
        watch: Watch,
        notifier: Notifier,
        room: DiskRoom,
    ) -> None:
        self._root, self._spool, self._planner, self._board = root, spool, planner, board
        self._watch, self._room, self._attempts = watch, room, settings.limits.attempts
        self.outcomes = Outcomes(root, spool, notifier)
        self.queue = Queue(settings, spool, planner, self.outcomes, room)
        self.arrivals = Arrivals(root, settings, spool, planner, self.queue, self.outcomes, watch)
        self._ended: list[Active] = []
        #: Jobs whose file the user removed while they ran; whoever tells the renderer empties this.
        self.cancelled: list[str] = []
        #: Wall clock of the last full scan, for the status.
        self.last_scan = 0.0

    # -- looking ---------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """After a start: finish what a crash left half done. The first scan resumes the running jobs."""
        self._spool.recover()
        for ticket in self._spool.set_aside_drops():
            self.arrivals.take_apart(ticket)
        self._spool.sync()

    def scan(self, now: float) -> None:
        """Look at the inbox and its folders: the truth that hints only hurry."""
        self._watch.add(self._root.inbox, now)
        for state in ("queued", "waiting", "running"):
            self._watch.add(self._root.state_folder(state), now, removals=True, top=self._root.inbox)
        self.arrivals.scan(now)
        self.queue.scan(now)
        for active in list(self._board.jobs.values()):
            self._cancel_if_gone(active)
        known = {*self._board.jobs, *(active.id for active in self._ended)}
        for ticket in self._spool.jobs("running"):
            if ticket.id not in known:
                self._resume(ticket)
        self.outcomes.recount()
        self.last_scan = time.time()

    def look(self, path: Path, sealed: bool, now: float) -> None:
        """Something happened to a path in the inbox."""
        state = path.parent.name if path.parent.parent == self._root.inbox else ""
        if state == "queued" and parse_queued(path.name) is None:
            self.arrivals.look_at_stranger(path, sealed, now)
        elif state == "queued":
            self.queue.look_at_queued(path, sealed, now)
        elif state == "waiting":
            self.queue.look_at_waiting(path, sealed, now)
        elif state == "running":
            active = self._board.by_path(path)
            if active is not None:
                self._cancel_if_gone(active)
        elif state not in STATES:
            self.arrivals.look(path, sealed, now)

    def step(self, now: float) -> None:
        """Take in what settled."""
        self.arrivals.step(now)
        self.queue.step(now)

    def next_time(self, now: float) -> float:
        return min(self.arrivals.next_time(), self.queue.next_time(now))

    # -- claiming --------------------------------------------------------------------------------------------------

    def claim(self, now: float) -> None:
        """Start the jobs that come next, as many as the renderer's window takes; their plans are on disk then."""
        claimed: list[tuple[Ticket, Plan]] = []
        while len(claimed) < BATCH and not self._spool.paused and not self.queue.for_room:
            head = self.queue.head()
            taken = sum(len(plan.images) for _, plan in claimed)
            if head is None or self._board.room(head.order, now) <= taken:
                break
            if self._room.is_low:
                self.queue.wait(head, self._room.why, for_room=True)
                break
            begun = self._claim(head)
            if begun is not None:
                claimed.append(begun)
        self._begin(claimed, crash_window=0)

    def _claim(self, ticket: Ticket) -> tuple[Ticket, Plan] | None:
        job = self.queue.job_of(ticket)
        if job is None:
            self.queue.skip(ticket)
            return None
        try:
            plan = self._plan(ticket, job)
            running = self._spool.claim(ticket, plan.job_id)
        except ModelMissing as error:
            self.queue.wait(ticket, str(error))
            return None
        except JobError as error:
            self.queue.fail(ticket, error)
            return None
        except FileNotFoundError:
            self.queue.leave(ticket)
            self.queue.skip(ticket)
            return None
        self.queue.leave(ticket)
        return running, plan

    def _plan(self, ticket: Ticket, job: Job) -> Plan:
        """The plan of a queued job: that of an earlier try where the job asks for the same, else under a new name."""
        begun = self._planner.begun(ticket.id)
        if begun is None:
            return self._planner.plan(job, ticket.id, keep=True)
        going_on = self._planner.continues(begun, job)
        return going_on or self._planner.plan_anew(job, self._spool.free_id(ticket.id), ticket.id)

    def _resume(self, ticket: Ticket) -> None:
        """A job that was running when the daemon stopped."""
        job = self.queue.job_of(ticket)
        if job is None:
            return
        try:
            begun = self._planner.begun(ticket.id)
            plan = self._planner.resume(begun) if begun is not None else self._planner.plan(job, ticket.id, keep=True)
        except ModelMissing as error:
            self.queue.wait(ticket, str(error))
        except JobError as error:
            self.queue.fail(ticket, error)
        else:
            self.queue.leave(ticket)
            self._begin([(ticket, plan)], crash_window=self._board.window)

    def _begin(self, claimed: list[tuple[Ticket, Plan]], crash_window: int) -> None:
        """Put the plans on disk, all together, then make the jobs active."""
        failures = disk.together([_beginning(self._planner, plan) for _, plan in claimed])
        self._spool.sync()
        for (ticket, plan), failure in zip(claimed, failures, strict=True):
            if failure is not None:
                self._room.doubt()
                why = f"The results cannot be written: {failure}. The job goes on when they can."
                self.queue.wait(ticket, why, for_room=True)
                continue
            active = Active.begin(ticket, plan, self._planner.results(plan.job_id), crash_window)
            active.give_up(self._attempts)
            self._board.add(active)
            events.info("job.running", job=active.id, images=active.pending, model=plan.model.name)
            if active.is_finished:
                self.end(active)

    # -- ends ------------------------------------------------------------------------------------------------------

    def end(self, active: Active) -> None:
        """Every image of a job is published or failed; `settle_ends` records it."""
        self._board.remove(active.id)
        self._ended.append(active)

    def settle_ends(self) -> None:
        """Write the results of ended jobs, all together, then move their files. A disk that refuses is asked again."""
        if self._room.is_doubted:
            return
        ended, self._ended = self._ended, []
        for active, failure in zip(ended, disk.together([_ending(active) for active in ended]), strict=True):
            if failure is None:
                self.outcomes.end(active)
            else:
                self._room.doubt()
                self._ended.append(active)
                events.warning("result.not_written", job=active.id, reason=str(failure))

    def wait_for_room(self, active: Active) -> None:
        """The disk is full: an active job waits, and goes on at the first image that is not published."""
        self._board.remove(active.id)
        with suppress(FileNotFoundError):
            self.queue.wait(active.ticket, self._room.why, for_room=True)

    def _cancel_if_gone(self, active: Active) -> None:
        """The user removed the file of a running job."""
        if not os.path.lexists(active.ticket.path):
            self._board.remove(active.id)
            self.cancelled.append(active.id)
            self.outcomes.cancel(active)

    # -- telling ---------------------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """A job could be claimed."""
        return self.queue.head() is not None

    @property
    def is_settled(self) -> bool:
        """Nothing arrives or ends."""
        return self.arrivals.is_settled and not (len(self.queue.edits) or self._ended)

    def count(self) -> dict[str, int]:
        """How many jobs are in each state."""
        return {
            "new": len(self.arrivals.settler),
            "queued": self._spool.queued_count,
            "waiting": len(self.queue.waiting),
            "running": len(self._board.jobs) + len(self._ended),
            **self.outcomes.counts,
        }

    @property
    def images_pending(self) -> int:
        """Images of queued, waiting and running jobs that are not published."""
        return self._board.pending + self.queue.images

    def problems(self, now: float) -> Iterator[tuple[str, str]]:
        """What is wrong and where: pairs of a sentence and a path."""
        return self.arrivals.problems(now)


def _beginning(planner: Planner, plan: Plan) -> Callable[[], object]:
    return lambda: planner.results(plan.job_id).begin(plan)


def _ending(active: Active) -> Callable[[], object]:
    outcomes = list(active.outcomes.values())
    return lambda: active.results.finish(active.plan, outcomes)
