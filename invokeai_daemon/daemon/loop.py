"""Loop: scan → settle → claim → hand to a worker → record. One thread, asleep until something happens.

What wakes it: a hint of a watched folder, an event of a worker, a signal, or the earliest time that somebody asked for.
"""

from __future__ import annotations

import math
import os
import selectors
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invokeai_daemon import files
from invokeai_daemon.daemon.active import Board
from invokeai_daemon.daemon.downloads import Downloads
from invokeai_daemon.daemon.intake import Intake
from invokeai_daemon.daemon.jobs import Jobs
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.notify import Notifier
from invokeai_daemon.daemon.planning import Planner
from invokeai_daemon.daemon.rendering import Rendering
from invokeai_daemon.daemon.room import DiskRoom
from invokeai_daemon.daemon.slices import SLICE
from invokeai_daemon.daemon.status import StatusFile, one_line, read_images_done
from invokeai_daemon.daemon.supervise import Worker
from invokeai_daemon.daemon.systemd import ServiceManager
from invokeai_daemon.daemon.thumbnails import Thumbnails
from invokeai_daemon.daemon.watch import Hints, Watch
from invokeai_daemon.models.registry import Registry
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from invokeai_daemon.spool.spool import Spool

#: Steps that may fail one after the other before the daemon gives up and lets the service manager restart it.
MOST_FAILURES = 20
#: Seconds that a renderer has to finish or abandon its step when the daemon stops.
PATIENCE = 20.0
#: Models that cannot be used, as many as the status tells of.
MOST_VERDICTS = 50
#: Seconds between two looks at whether watched folders were replaced.
CHECK_SECONDS = 5.0


@dataclass
class Wishes:
    """What signals asked for."""

    #: 1: stop; 2 and more: stop faster.
    stop: int = 0
    rescan: bool = False


@dataclass(frozen=True)
class Commands:
    """The command lines of the workers."""

    renderer: Sequence[str]
    importer: Sequence[str]
    downloader: Sequence[str]


class Daemon:
    """One daemon on one root, whose lock it holds already."""

    def __init__(
        self,
        root: Root,
        settings: Settings,
        defaults: Mapping[str, Any],
        commands: Commands,
        once: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root, self.settings, self.once, self.clock = root, settings, once, clock
        self.wishes = Wishes()
        self.service = ServiceManager()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self.registry = Registry(root)
        self.spool = Spool(root)
        self.room = DiskRoom(root.outputs, settings.limits.free_gb, clock)
        self.notifier = Notifier(settings.notify.hook)
        self.watch = Watch(self.wake, settings.watch.poll_seconds, settings.watch.force_polling)
        silence = settings.limits.step_seconds
        renderer = Worker("renderer", commands.renderer, self._selector, silence)
        importer = Worker("importer", commands.importer, self._selector, settings.import_.timeout_seconds)
        self.board = Board(settings.render.max_lanes * 2)
        planner = Planner(root, settings, defaults, self.registry)
        self.jobs = Jobs(root, settings, self.spool, planner, self.board, self.watch, self.notifier, self.room)
        self.thumbnails = Thumbnails(root, self.registry, renderer)
        self.rendering = Rendering(renderer, self.board, self.jobs, settings.limits, self.room, self.thumbnails)
        self.intake = Intake(root, settings, self.registry, self.watch, importer, self.notifier)
        # Silent while it looks a name up and connects, which has limits of its own.
        silence = 60 + 3 * settings.install.timeout_seconds
        downloader = Worker("downloader", commands.downloader, self._selector, silence)
        self.downloads = Downloads(root, settings, downloader, self.notifier, self.intake.look)
        self.status = StatusFile(root.status_file, self._gather)
        self._images_before = read_images_done(root.status_file)
        self._next_scan = self._next_check = self._next_sign = 0.0
        self._failures = 0
        #: Paths that something happened to, which were not looked at yet.
        self._touched: dict[Path, bool] = {}

    def wake(self) -> None:
        """Wake the loop, from any thread."""
        with suppress(BlockingIOError):
            os.write(self.wake_write, b"\0")

    # -- the story -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until a signal, or until everything is worked off (`once`)."""
        self._start()
        try:
            while not self.wishes.stop and not (self.once and self._is_drained()):
                self._sleep()
                self._guarded_step(self.clock())
        finally:
            self._stop()

    def _start(self) -> None:
        now = self.clock()
        if not self.once:
            self.rendering.worker.start(now)
        files.remove_leftovers([self.root.configs, self.root.state, self.root.outputs])
        files.remove_leftovers(path for path in self.root.models.glob("*/*") if path.is_dir())
        self.jobs.recover()
        self._scan(now)
        self.status.step(now)
        self.service.ready()
        events.info("daemon.ready", root=self.root.path, pid=os.getpid())

    def step(self, now: float) -> None:
        """One turn: hear, scan, settle, claim, hand out, record."""
        self._hear(now)
        self.downloads.step(now)
        self.intake.step(now)
        self.jobs.step(now)
        self._recheck_waiting()
        self.rendering.listen(now)
        self._work(now)
        self.jobs.settle_ends()
        self.spool.sync()
        self.notifier.step(now)
        self.status.step(now)
        self._show_life(now)

    def _hear(self, now: float) -> None:
        if now >= self._next_check:
            self._next_check = now + CHECK_SECONDS
            self.watch.check()
        # Those that came before are looked at first; meanwhile the others are kept, and counted, where they come from.
        hints = Hints() if self._touched else self.watch.take(now)
        self._touched |= hints.touched
        if self.wishes.rescan or now >= self._next_scan:
            self.wishes.rescan = False
            self._scan(now)
        elif hints.scan:
            if self.root.autoimport in hints.scan:
                self.intake.scan(now)
                self.downloads.scan(now)
            if self.root.inbox in hints.scan:
                self.jobs.scan(now)
        started = time.monotonic()
        while self._touched and time.monotonic() - started < SLICE:
            path = next(iter(self._touched))
            sealed = self._touched.pop(path)
            if path.parent == self.root.configs:
                self.intake.changed |= path == self.root.registry_file
            elif path.is_relative_to(self.root.inbox):
                self.jobs.look(path, sealed, now)
            else:
                self.intake.look(path, sealed, now)
                self.downloads.look(path, sealed, now)

    def _scan(self, now: float) -> None:
        self._next_scan = now + self.settings.watch.rescan_seconds
        self.root.make()
        self.watch.add(self.root.configs, now)
        self.intake.scan(now)
        self.downloads.scan(now)
        self.jobs.scan(now)
        self.intake.changed = True

    def _recheck_waiting(self) -> None:
        """A model or room may have come."""
        has_room = self.room.look()
        if self.intake.changed or has_room:
            self.intake.changed = False
            self.thumbnails.is_stale = True
            self.jobs.queue.recheck_waiting()

    def _work(self, now: float) -> None:
        """Keep the renderer there and busy."""
        worker = self.rendering.worker
        if not self.once or self.jobs.has_work or self.board.jobs:
            worker.start(now)
        self.rendering.tell_cancelled()
        if self.board.jobs or self.jobs.has_work:
            self.thumbnails.give_way()
        if worker.is_ready and not self.spool.paused:
            self.jobs.claim(now)
            if not self.room.is_low:
                self.rendering.hand_out(now)
            self._test_models()

    def _test_models(self) -> None:
        """Use the time in which there is nothing else to do."""
        is_wanted = self.settings.import_.thumbnails and not self.once
        is_busy = self.board.jobs or self.jobs.has_work or not self.jobs.is_settled or not self.intake.is_idle
        if is_wanted and not is_busy and not self.room.is_low:
            self.thumbnails.begin()

    def _is_drained(self) -> bool:
        is_settled = (
            not self._touched and self.intake.is_idle and self.jobs.is_settled and self.downloads.is_idle(self.clock())
        )
        return is_settled and not self.board.jobs and (not self.jobs.has_work or self.spool.paused)

    # -- sleeping and waking ---------------------------------------------------------------------------------------

    def _sleep(self) -> None:
        timeout = max(0.0, self._next_time(self.clock()) - self.clock())
        for key, _ in self._selector.select(min(timeout, 3600.0)):
            if key.fd == self._wake_read:
                with suppress(BlockingIOError):
                    while os.read(self._wake_read, 4096):
                        pass

    def _next_time(self, now: float) -> float:
        if self._touched:
            return now
        times = [
            self._next_scan,
            self._next_check,
            self.watch.next_time(),
            self.intake.next_time(),
            self.downloads.next_time(now),
            self.jobs.next_time(now),
            self.room.next_time(),
            self.notifier.next_time(now),
            self.status.next_time(),
            self._next_sign if self.service.watchdog_interval else math.inf,
        ]
        if not self.once or self.board.jobs or self.jobs.has_work or self.rendering.worker.is_running():
            times.append(self.rendering.next_time())
        return min(times)

    def _guarded_step(self, now: float) -> None:
        """A step that fails is logged and tried again; one that fails again and again ends the daemon."""
        try:
            self.step(now)
            self._failures = 0
        except Exception:
            self._failures += 1
            events.exception("daemon.step_failed", failures=self._failures)
            if self._failures >= MOST_FAILURES:
                raise
            time.sleep(min(5.0, 0.1 * 2**self._failures))
            self._next_scan = 0.0

    def _show_life(self, now: float) -> None:
        """A sign of life, given from here only: workers that are silent for too long were replaced just before."""
        self.service.status(one_line(self.status.last))
        if self.service.watchdog_interval and now >= self._next_sign:
            self._next_sign = now + self.service.watchdog_interval
            self.service.alive()

    # -- the end ---------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self.service.stopping()
        events.info("daemon.stopping")
        worker = self.rendering.worker
        worker.order_stop()
        self.intake.stop()
        self.downloads.stop()
        deadline = self.clock() + min(PATIENCE, self.settings.service.stop_seconds / 2)
        while worker.is_running() and self.wishes.stop < 2 and self.clock() < deadline:
            self._selector.select(0.1)
            with suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
            self.rendering.hear_last(self.clock())
        for message in worker.end():
            self.rendering.take(message, self.clock())
        self.rendering.stop()
        self.jobs.settle_ends()
        self.spool.sync()
        self.status.end()
        self.watch.close()
        self.service.close()
        self._selector.close()
        events.info("daemon.stopped")

    # -- the status ------------------------------------------------------------------------------------------------

    def _gather(self) -> dict[str, Any]:
        now = self.clock()
        problems = list(self._problems(now))
        worker = self.rendering.worker
        is_degraded = worker.deaths_in_a_row > 1 or self.room.is_low or bool(self.registry.problems)
        return {
            "state": "degraded" if is_degraded else "running",
            "jobs": self.jobs.count(),
            "images": {"done": self._images_before + self.rendering.published, "pending": self.jobs.images_pending},
            "current": self.rendering.current(),
            "models": self._models(),
            "downloads": self.downloads.shown(now),
            "watch": self._watched(),
            "device": worker.about.get("device"),
            "renderer": {"state": worker.state, "pid": worker.pid},
            "problems": problems,
        }

    def _models(self) -> dict[str, int]:
        counts = {"ok": 0, "importing": self.intake.importing, "unusable": 0, "unknown": 0, "missing": 0, "rejected": 0}
        for entry in self.registry.models():
            counts[entry.status] += 1
        return counts

    def _watched(self) -> list[dict[str, Any]]:
        scans = ((self.root.autoimport, self.intake.last_scan), (self.root.inbox, self.jobs.last_scan))
        return [{"path": path.name, "mode": self.watch.mode(path), "last_scan": last} for path, last in scans]

    def _problems(self, now: float) -> Iterator[tuple[str, str]]:
        worker = self.rendering.worker
        if worker.last_death:
            yield f"the renderer died: {worker.last_death}", "renderer"
        if self.room.is_low:
            yield self.room.why, "disk"
        for problem in self.registry.problems:
            yield str(problem), "configs/models.yaml"
        yield from self._verdicts()
        yield from self.intake.problems(now)
        yield from self.downloads.problems()
        yield from self.jobs.problems(now)

    def _verdicts(self) -> Iterator[tuple[str, str]]:
        """The models that cannot be used, the first of many."""
        bad = [entry for entry in self.registry.models() if entry.status in ("unusable", "unknown", "rejected")]
        for entry in bad[:MOST_VERDICTS]:
            yield entry.why, entry.source or f"configs/models.yaml, {entry.name}"
        if len(bad) > MOST_VERDICTS:
            more = f"{len(bad) - MOST_VERDICTS} more models cannot be used; see invokeai-daemon models list"
            yield more, "configs/models.yaml"
