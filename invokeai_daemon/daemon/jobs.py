"""Jobs: the way of a job from a drop in the inbox to its last image. Called by the loop; renders nothing itself.

arrival → settled → read → queued (or waiting, or failed) → claimed: planned, job.toml on disk → active → done, failed.
Every decision is a rename in the spool; what is kept in memory here is rebuilt from the folders at each start.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from invokeai_daemon.daemon.active import Active, Board
from invokeai_daemon.daemon.drops import KINDS, Reading, explained, read_drop, read_job
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.notify import Notifier
from invokeai_daemon.daemon.planning import Planner
from invokeai_daemon.daemon.room import DiskRoom
from invokeai_daemon.daemon.settle import Proof, Settler, Signature, is_ignored, is_regular
from invokeai_daemon.daemon.watch import Watch
from invokeai_daemon.errors import JobError, ModelMissing
from invokeai_daemon.job.plan import Plan
from invokeai_daemon.job.schema import Job
from invokeai_daemon.output.results import Outcome
from invokeai_daemon.root import STATES, Root
from invokeai_daemon.settings import Settings
from invokeai_daemon.spool import disk
from invokeai_daemon.spool.names import parse_queued
from invokeai_daemon.spool.spool import Spool, Ticket

#: Jobs that one step takes in or claims, so that workers and the service manager do not wait for a flood.
BATCH = 64
#: Queued files that one step reads to learn how many images they ask for, after a start.
READ_AHEAD = 20
#: Parsed jobs kept in memory; others are read again when they are claimed.
MOST_PARSED = 512


@dataclass
class _Known:
    """What is known of a job in queued/ or waiting/."""

    signature: Signature | None
    images: int
    job: Job | None = None


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
        self.root, self.settings, self.spool = root, settings, spool
        self.planner, self.board, self.watch, self.notifier, self.room = planner, board, watch, notifier, room
        quiet = settings.watch.job_quiet_seconds
        self.arrivals = Settler(quiet, self._proof)
        self.edits = Settler(quiet, self._edit_proof)
        self._readings: dict[Path, Reading] = {}
        self._known: dict[str, _Known] = {}
        self._parsed: dict[str, None] = {}
        self._queue: list[tuple[tuple[int, int], str]] = []
        self._unread: list[str] = []
        self._waiting: dict[str, Ticket] = {}
        #: Waiting jobs that need nothing but room on the disk.
        self._for_room: set[str] = set()
        self._finished: list[Active] = []
        self._odd: dict[Path, str] = {}
        #: Jobs whose file the user removed while they ran; the renderer's keeper empties this.
        self.cancelled: list[str] = []
        #: Counts of done and failed jobs; other states are counted from memory.
        self.counts = {"done": 0, "failed": 0}
        #: Wall clock of the last full scan, for the status.
        self.last_scan = 0.0

    # -- start and scans -------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """After a start: finish what a crash left half done, and resume running jobs. The folders are the truth."""
        self.spool.recover()
        for ticket in self.spool.set_aside_drops():
            self._take_apart(ticket, self._shown(ticket.path))
        for ticket in self.spool.jobs("running"):
            self._resume(ticket)
        self.spool.sync()

    def scan(self, now: float) -> None:
        """Look at the inbox and its folders: the truth that hints only hurry."""
        self._watch_folders(now)
        found = set(self._drops(self.root.inbox, now))
        for path in found:
            self.arrivals.see(path, now)
        self.arrivals.keep_only(found)
        self._odd = {path: text for path, text in self._odd.items() if os.path.lexists(path)}
        self._scan_queue(now)
        self._scan_waiting(now)
        for active in list(self.board.jobs.values()):
            if not os.path.lexists(active.ticket.path):
                self._cancel(active)
        for state in self.counts:
            self.counts[state] = self.spool.count(state)
        self.last_scan = time.time()

    def look(self, path: Path, sealed: bool, now: float) -> None:
        """Something happened to a path in the inbox."""
        state = path.parent.name if path.parent.parent == self.root.inbox else ""
        if state == "queued":
            self._look_at_queued(path, sealed, now)
        elif state == "waiting":
            self._look_at_waiting(path, sealed, now)
        elif state == "running":
            active = self.board.by_path(path)
            if active is not None and not os.path.lexists(path):
                self._cancel(active)
        elif state not in STATES:
            for drop in self._drops_at(path, now):
                self.arrivals.see(drop, now, sealed)

    def _watch_folders(self, now: float) -> None:
        self.watch.add(self.root.inbox, now)
        for state in ("queued", "waiting", "running"):
            self.watch.add(self.root.state_folder(state), now, removals=True, top=self.root.inbox)

    # -- arrivals --------------------------------------------------------------------------------------------------

    def _drops(self, folder: Path, now: float) -> Iterator[Path]:
        """The drops in a folder of the inbox, and in folders dropped there."""
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            return
        for entry in entries:
            yield from self._drops_at(Path(entry.path), now)

    def _drops_at(self, path: Path, now: float) -> Iterator[Path]:
        name = path.name
        in_inbox = path.parent == self.root.inbox
        if is_ignored(name) or (in_inbox and (name in STATES or name == "PAUSE")):
            return
        if path.is_dir() and not path.is_symlink():
            self.watch.add(path, now, top=self.root.inbox)
            yield from self._drops(path, now)
        elif not is_regular(path):
            if os.path.lexists(path):
                self._report_odd(path, "is no regular file, so it is left alone")
        elif path.suffix.lower() not in KINDS:
            self._report_odd(path, f"is left alone: the inbox takes {', '.join(KINDS)} and folders of these")
        else:
            yield path

    def _report_odd(self, path: Path, text: str) -> None:
        if path not in self._odd:
            self._odd[path] = text
            events.warning("drop.left_alone", path=path, reason=text)

    def _proof(self, path: Path) -> Proof:
        """A drop that reads well is complete; one that does not may still be growing."""
        try:
            reading = self._readings[path] = read_drop(path, self._shown(path), self.settings.limits.job_bytes)
        except OSError:
            return "unknown"
        return "complete" if reading.jobs else "unknown"

    def _take_in(self, path: Path) -> None:
        """A settled drop: into the queue, or into failed/ with its error."""
        reading = self._readings.pop(path, None)
        shown = self._shown(path)
        try:
            if reading is None or reading.signature != Signature.of(path):
                reading = read_drop(path, shown, self.settings.limits.job_bytes)
            stem = self._stem(path)
            if reading.error:
                self._reject(path, stem, reading.error)
            elif path.suffix.lower() == ".toml":
                job = reading.jobs[0][1]
                ticket = self.spool.accept(path, stem, self.planner.priority(job))
                self._enqueue(ticket, job, reading.signature)
            else:
                self._take_apart(self.spool.set_aside(path, stem), shown)
        except FileNotFoundError:
            return
        except OSError as error:
            self._report_odd(path, f"cannot be taken in: {error.strerror or error}")
        finally:
            self._remove_if_empty(path.parent)

    def _reject(self, path: Path, stem: str, error: str) -> None:
        ticket = self.spool.reject(path, stem, error)
        self._count_failed(ticket, error)

    def _take_apart(self, ticket: Ticket, shown: str) -> None:
        """Make the jobs of a picture or a list, each under a name of its own, so that doing it again adds nothing."""
        reading = read_drop(ticket.path, shown, self.settings.limits.job_bytes)
        if reading.error:
            self._count_failed(self.spool.fail(ticket, reading.error), reading.error)
            return
        for number, (text, job) in enumerate(reading.jobs, start=1):
            own_id = ticket.id if len(reading.jobs) == 1 else f"{ticket.id}-{number:04}"
            added = self.spool.add(own_id, text, self.planner.priority(job))
            if added is not None:
                self._enqueue(added, job, None)
        self.spool.sync()
        self.spool.finish(ticket)

    def _enqueue(self, ticket: Ticket, job: Job, signature: Signature | None) -> None:
        """A valid job is in queued/: keep it there if it can run, or let it wait or fail."""
        self._learn(ticket.id, job, signature or _signature(ticket.path))
        events.info("job.queued", job=ticket.id, priority=ticket.priority)
        try:
            self.planner.plan(job, ticket.id, seed=lambda: 0)
        except ModelMissing as error:
            self._wait(ticket, str(error))
        except JobError as error:
            self._fail(ticket, explained(self._shown(ticket.path), error))
        else:
            heapq.heappush(self._queue, (ticket.order, ticket.id))

    def _remove_if_empty(self, folder: Path) -> None:
        """A dropped folder goes when its last drop was taken."""
        while folder != self.root.inbox and folder.is_relative_to(self.root.inbox) and folder.name not in STATES:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def _stem(self, path: Path) -> str:
        """`set/a.toml` is job set-a."""
        if path.parent == self.root.state_folder("queued"):
            return path.stem
        return "-".join(path.relative_to(self.root.inbox).with_suffix("").parts)

    # -- the queue -------------------------------------------------------------------------------------------------

    def _scan_queue(self, now: float) -> None:
        queued = self.spool.look_at_queue()
        self._queue = [(ticket.order, job_id) for job_id, ticket in queued.items()]
        heapq.heapify(self._queue)
        for job_id in self._known.keys() - queued.keys() - self._waiting.keys():
            self._forget(job_id)
        for job_id, ticket in queued.items():
            known = self._known.get(job_id)
            if known is None:
                self._unread.append(job_id)
            elif known.signature != _signature(ticket.path):
                self.edits.see(ticket.path, now)
        for path in self.spool.strangers():
            self._look_at_stranger(path, False, now)

    def _look_at_queued(self, path: Path, sealed: bool, now: float) -> None:
        if is_ignored(path.name):
            return
        ticket = self.spool.touched(path)
        if ticket is None:
            self._look_at_stranger(path, sealed, now)
            for job_id in [job_id for job_id in self._known if job_id in self._gone_from_queue(path)]:
                self._forget(job_id)
            return
        known = self._known.get(ticket.id)
        if known is not None and known.signature == _signature(path):
            heapq.heappush(self._queue, (ticket.order, ticket.id))
        else:
            self.edits.see(path, now, sealed)

    def _gone_from_queue(self, path: Path) -> set[str]:
        name = parse_queued(path.name)
        if name is None or self.spool.queued(name.id) is not None or name.id in self._waiting:
            return set()
        return {name.id}

    def _look_at_stranger(self, path: Path, sealed: bool, now: float) -> None:
        """A file that a user put straight into queued/ is a drop."""
        if (
            path.suffix == ".toml"
            and parse_queued(path.name) is None
            and not is_ignored(path.name)
            and is_regular(path)
        ):
            self.arrivals.see(path, now, sealed)

    def _edit_proof(self, path: Path) -> Proof:
        try:
            read_job(path, self._shown(path), self.settings.limits.job_bytes)
        except (OSError, JobError):
            return "unknown"
        return "complete"

    def _take_edit(self, path: Path) -> None:
        """A queued or waiting job was edited: its place may change, or it may be wrong now."""
        ticket = self.spool.touched(path)
        if ticket is None:
            return
        read = self._read(ticket)
        if read is None:
            return
        signature, job = read
        self._learn(ticket.id, job, signature)
        self._waiting.pop(ticket.id, None)
        moved = self.spool.requeue(ticket, self.planner.priority(job))
        self._enqueue(moved, job, signature)

    def _read(self, ticket: Ticket) -> tuple[Signature, Job] | None:
        """The job in a queued or waiting file; a wrong one fails here."""
        shown = self._shown(ticket.path)
        try:
            return read_job(ticket.path, shown, self.settings.limits.job_bytes)
        except JobError as error:
            self._fail(ticket, explained(shown, error))
        except FileNotFoundError:
            self._forget(ticket.id)
        except OSError as error:
            self._fail(ticket, f"{shown} could not be read: {error.strerror or error}.\n\nMove it back to inbox/.")
        return None

    def _read_ahead(self) -> None:
        """Learn a few more queued jobs of an earlier run, so that the status can say how many images are to do."""
        for _ in range(min(READ_AHEAD, len(self._unread))):
            job_id = self._unread.pop()
            ticket = self.spool.queued(job_id)
            if ticket is not None and job_id not in self._known:
                read = self._read(ticket)
                if read is not None:
                    self._learn(job_id, read[1], read[0])

    def _learn(self, job_id: str, job: Job, signature: Signature | None) -> None:
        self._known[job_id] = _Known(signature, self.planner.image_count(job), job)
        self._parsed[job_id] = None
        if len(self._parsed) > MOST_PARSED:
            oldest = next(iter(self._parsed))
            del self._parsed[oldest]
            if oldest in self._known:
                self._known[oldest].job = None

    def _forget(self, job_id: str) -> None:
        self._known.pop(job_id, None)
        self._parsed.pop(job_id, None)
        self._for_room.discard(job_id)

    # -- waiting ---------------------------------------------------------------------------------------------------

    def _wait(self, ticket: Ticket, why: str, for_room: bool = False) -> None:
        waiting = self.spool.wait(ticket, why)
        self._waiting[waiting.id] = waiting
        if for_room:
            self._for_room.add(waiting.id)
        if ticket.state != "waiting":
            events.info("job.waiting", job=waiting.id, why=why)

    def _scan_waiting(self, now: float) -> None:
        found = {ticket.id: ticket for ticket in self.spool.jobs("waiting")}
        for job_id in self._waiting.keys() - found.keys():
            self._user_removed_waiting(self._waiting[job_id])
        for job_id, ticket in found.items():
            known = self._known.get(job_id)
            if job_id not in self._waiting or known is None:
                self._waiting[job_id] = ticket
            elif known.signature != _signature(ticket.path):
                self.edits.see(ticket.path, now)
        self.recheck_waiting()

    def _look_at_waiting(self, path: Path, sealed: bool, now: float) -> None:
        ticket = self.spool.touched(path)
        if ticket is None:
            gone = self._waiting.get(path.stem)
            if gone is not None and gone.path == path:
                self._user_removed_waiting(gone)
            return
        known = self._known.get(ticket.id)
        if known is None or known.signature != _signature(path):
            self.edits.see(path, now, sealed)

    def _user_removed_waiting(self, ticket: Ticket) -> None:
        del self._waiting[ticket.id]
        self.spool.forget(ticket)
        self._forget(ticket.id)
        events.info("job.removed", job=ticket.id, state="waiting")

    def recheck_waiting(self) -> None:
        """Queue the waiting jobs whose need is met. Called when the registry or the disk changed."""
        for ticket in list(self._waiting.values()):
            if ticket.id in self._for_room and self.room.is_low:
                continue
            job = self._job_of(ticket)
            if job is None:
                self._waiting.pop(ticket.id, None)
                continue
            try:
                self.planner.model(job)
            except ModelMissing as error:
                self._for_room.discard(ticket.id)
                self._wait(ticket, str(error))
                continue
            except JobError as error:
                self._fail(ticket, explained(self._shown(ticket.path), error))
                continue
            del self._waiting[ticket.id]
            self._for_room.discard(ticket.id)
            moved = self.spool.requeue(ticket, self.planner.priority(job))
            self._enqueue(moved, job, _signature(moved.path))

    def _job_of(self, ticket: Ticket) -> Job | None:
        known = self._known.get(ticket.id)
        if known is not None and known.job is not None and known.signature == _signature(ticket.path):
            return known.job
        read = self._read(ticket)
        if read is None:
            return None
        self._learn(ticket.id, read[1], read[0])
        return read[1]

    # -- claiming --------------------------------------------------------------------------------------------------

    def claim(self, now: float) -> None:
        """Start the jobs that come next, as many as the renderer's window takes; their plans are on disk then."""
        if self.spool.paused or self._for_room:
            return
        begun: list[tuple[Ticket, Plan]] = []
        while len(begun) < BATCH:
            head = self._head()
            taken = sum(len(plan.images) for _, plan in begun)
            if head is None or self.board.room(head.order, now) - taken <= 0:
                break
            if self.room.is_low:
                heapq.heappop(self._queue)
                self._wait(head, self.room.why, for_room=True)
                break
            heapq.heappop(self._queue)
            claimed = self._claim(head)
            if claimed is not None:
                begun.append(claimed)
        self._begin(begun, crash_window=0)

    def _head(self) -> Ticket | None:
        """The queued job that runs next."""
        while self._queue:
            order, job_id = self._queue[0]
            ticket = self.spool.queued(job_id)
            if ticket is not None and ticket.order == order:
                return ticket
            heapq.heappop(self._queue)
        return None

    def _claim(self, ticket: Ticket) -> tuple[Ticket, Plan] | None:
        job = self._job_of(ticket)
        if job is None:
            return None
        try:
            plan, job_id = self._plan(ticket, job)
            running = self.spool.claim(ticket, job_id)
        except ModelMissing as error:
            self._wait(ticket, str(error))
            return None
        except JobError as error:
            self._fail(ticket, explained(self._shown(ticket.path), error))
            return None
        except FileNotFoundError:
            self._forget(ticket.id)
            return None
        self._forget(ticket.id)
        return running, plan

    def _plan(self, ticket: Ticket, job: Job) -> tuple[Plan, str]:
        """The plan of a queued job; that of an earlier try where the job asks for the same, else under a new name."""
        begun = self.planner.begun(ticket.id)
        if begun is None:
            return self.planner.plan(job, ticket.id), ticket.id
        same = self.planner.continues(begun, job)
        if same is not None:
            return same, ticket.id
        job_id = self.spool.free_id(ticket.id)
        return self.planner.plan(job, job_id), job_id

    def _resume(self, ticket: Ticket) -> None:
        """A job that was running when the daemon stopped."""
        job = self._job_of(ticket)
        if job is None:
            return
        try:
            begun = self.planner.begun(ticket.id)
            plan = self.planner.resume(begun) if begun is not None else self.planner.plan(job, ticket.id)
        except ModelMissing as error:
            self._wait(ticket, str(error))
            return
        except JobError as error:
            self._fail(ticket, explained(self._shown(ticket.path), error))
            return
        self._forget(ticket.id)
        self._begin([(ticket, plan)], crash_window=self.board.window)

    def _begin(self, claimed: list[tuple[Ticket, Plan]], crash_window: int) -> None:
        """Put the plans on disk, all together, then hand the jobs over."""
        beginnings = [_beginning(self.planner.results(plan.job_id).begin, plan) for _, plan in claimed]
        failures = disk.together(beginnings)
        self.spool.sync()
        for (ticket, plan), failure in zip(claimed, failures, strict=True):
            if failure is not None:
                self._cannot_write(ticket, failure)
                continue
            active = Active.begin(ticket, plan, self.planner.results(plan.job_id), crash_window)
            active.give_up(self.settings.limits.attempts)
            self.board.add(active)
            events.info("job.running", job=active.id, images=active.pending, model=plan.model.name)
            if active.is_finished:
                self.end(active)

    def _cannot_write(self, ticket: Ticket, failure: BaseException) -> None:
        self.room.doubt()
        self._wait(ticket, f"The results cannot be written: {failure}. The job goes on when they can.", for_room=True)

    # -- ends ------------------------------------------------------------------------------------------------------

    def end(self, active: Active) -> None:
        """Every image of a job is published or failed; `settle_ends` records it."""
        self.board.remove(active.id)
        self._finished.append(active)

    def settle_ends(self) -> None:
        """Write the results of ended jobs, all together, then move their files."""
        ended, self._finished = self._finished, []
        writes = [_finishing(active) for active in ended]
        for active, failure in zip(ended, disk.together(writes), strict=True):
            if failure is not None:
                events.warning("result.not_written", job=active.id, reason=str(failure))
            self._record_end(active)
        if ended:
            self.spool.sync()

    def _record_end(self, active: Active) -> None:
        try:
            if active.failures:
                self._fail(active.ticket, _failed_text(active))
                return
            self.spool.finish(active.ticket)
        except FileNotFoundError:
            events.info("job.removed", job=active.id, state="running")
            return
        self.counts["done"] += 1
        events.info("job.done", job=active.id, images=len(active.plan.images))
        self.notifier.tell("job_done", job=active.id, folder=str(active.results.folder))

    def wait_for_room(self, active: Active) -> None:
        """The disk is full: an active job waits, and goes on at the first image that is not published."""
        self.board.remove(active.id)
        with suppress(FileNotFoundError):
            self._wait(active.ticket, self.room.why, for_room=True)

    def _cancel(self, active: Active) -> None:
        """The user removed the file of a running job."""
        self.board.remove(active.id)
        self.cancelled.append(active.id)
        self.spool.forget(active.ticket)
        with suppress(OSError):
            active.results.finish(active.plan, active.outcomes.values())
        events.info("job.cancelled", job=active.id)

    def _fail(self, ticket: Ticket, error: str) -> None:
        self._waiting.pop(ticket.id, None)
        self._forget(ticket.id)
        with suppress(FileNotFoundError):
            self._count_failed(self.spool.fail(ticket, error), error)

    def _count_failed(self, ticket: Ticket, error: str) -> None:
        self.counts["failed"] += 1
        events.warning("job.failed", job=ticket.id, error=" ".join(error.split())[:500])
        self.notifier.tell("job_failed", job=ticket.id, error=error)

    # -- the step --------------------------------------------------------------------------------------------------

    def step(self, now: float) -> None:
        """Take in what settled."""
        for path in self.arrivals.ready(now, BATCH):
            self._take_in(path)
        for path in self.edits.ready(now, BATCH):
            self._take_edit(path)
        self._read_ahead()

    def next_time(self, now: float) -> float:
        if self._unread:
            return now
        return min(self.arrivals.next_time(), self.edits.next_time())

    @property
    def has_work(self) -> bool:
        """A job could be claimed."""
        return self._head() is not None

    @property
    def is_settled(self) -> bool:
        """Nothing arrives or ends."""
        return not (len(self.arrivals) or len(self.edits) or self._finished)

    def count(self) -> dict[str, int]:
        """How many jobs are in each state."""
        return {
            "new": len(self.arrivals),
            "queued": len(self.spool.queued_ids()),
            "waiting": len(self._waiting),
            "running": len(self.board.jobs) + len(self._finished),
            **self.counts,
        }

    @property
    def images_pending(self) -> int:
        """Images of queued, waiting and running jobs that are not published."""
        return self.board.pending + sum(known.images for known in self._known.values())

    def problems(self, now: float) -> Iterator[tuple[str, str]]:
        """What is wrong and where: pairs of a sentence and a path."""
        for path, text in self._odd.items():
            yield text, self._shown(path)
        for path, awaited in self.arrivals.pending(now, longer_than=60.0):
            yield awaited, self._shown(path)

    def _shown(self, path: Path) -> str:
        """A path as messages name it: from the root on, without what could disturb a terminal."""
        text = str(path.relative_to(self.root.path)) if path.is_relative_to(self.root.path) else str(path)
        return text if text.isprintable() else ascii(text)[1:-1]


def _beginning(begin: Callable[[Plan], None], plan: Plan) -> Callable[[], object]:
    return lambda: begin(plan)


def _finishing(active: Active) -> Callable[[], object]:
    outcomes: list[Outcome] = list(active.outcomes.values())
    return lambda: active.results.finish(active.plan, outcomes)


def _failed_text(active: Active) -> str:
    failures = active.failures
    done = len(active.plan.images) - len(failures)
    lines = [f"{active.id} failed: {len(failures)} of {len(active.plan.images)} images could not be rendered.", ""]
    lines += [f"  image {outcome.number}: {outcome.error}" for outcome in failures[:50]]
    if len(failures) > 50:
        lines.append(f"  and {len(failures) - 50} more")
    where = f" {done} images are in outputs/{active.id}/." if done else ""
    return "\n".join([*lines, "", f"Move the file back to inbox/ to try these again.{where}"])


def _signature(path: Path) -> Signature | None:
    try:
        return Signature.of(path)
    except OSError:
        return None
