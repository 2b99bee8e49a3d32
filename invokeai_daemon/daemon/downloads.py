"""Downloads: what the requests in autoimport/ ask for is fetched by the downloader, one at a time. Called by the loop.

Taking a request away cancels what it asks for. What fails for a reason that may pass is tried again, ever more rarely,
and never given up; what came of a request is `requests`' to remember.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invokeai_daemon.daemon.guard import Guard
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.notify import Notifier
from invokeai_daemon.daemon.requests import Requests, Result, Task
from invokeai_daemon.daemon.supervise import Worker
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from invokeai_daemon.workers.protocol import Message

FIRST_PAUSE, LONGEST_PAUSE = 15.0, 900.0
#: Seconds without work after which the downloader is let go.
IDLE_SECONDS = 30.0
#: Downloads that the status lists.
MOST_SHOWN = 50


@dataclass
class _Running:
    """The download that runs."""

    task: Task
    request: Path
    key: int
    since: float
    file: str = ""
    done: int = 0
    of: int | None = None
    #: Bytes that had come when its speed was first taken, and when that was.
    start: tuple[int, float] | None = None
    speed: float | None = None


class Downloads:
    """The downloads of one root."""

    def __init__(
        self,
        root: Root,
        settings: Settings,
        worker: Worker,
        notifier: Notifier,
        arrived: Callable[[Path, bool, float], None],
    ) -> None:
        self.settings, self.worker, self.notifier = settings, worker, notifier
        self.requests = Requests(root, settings)
        #: Tells the intake of what came.
        self._arrived = arrived
        self._running: _Running | None = None
        self._now = 0.0
        self.guard = Guard(self._fault)
        self._last_key = 0
        self._idle_since = 0.0

    # -- what the loop calls ---------------------------------------------------------------------------------------

    def scan(self, now: float) -> None:
        """Look at all of autoimport/ for requests."""
        if self.settings.install.drops:
            self.requests.scan(now)

    def look(self, path: Path, sealed: bool, now: float) -> None:
        """Something happened to a path below autoimport/."""
        if self.settings.install.drops:
            self.requests.look(path, sealed, now)

    def step(self, now: float) -> None:
        """Move on: read what settled, hear the downloader, give it the next."""
        self.requests.step(now)
        self._listen(now)
        self._give(now)

    def next_time(self, now: float) -> float:
        times = [self.requests.next_time()]
        dues = [task.due for _, task in self.requests.to_do()] if self._running is None else []
        times += [due for due in dues if due > now]
        if self.worker.is_running() or self._running is not None or any(due <= now for due in dues):
            times.append(self.worker.next_time())
        if self._running is None and self.worker.is_running():
            times.append(self._idle_since + IDLE_SECONDS)
        return min(times)

    def is_idle(self, now: float) -> bool:
        """Nothing arrives and nothing is fetched; what waits for its next try does not count."""
        is_waiting = all(task.due > now for _, task in self.requests.to_do())
        return not self.requests.are_arriving and self._running is None and is_waiting

    def stop(self) -> None:
        """End the downloader; what it has stays, and the next start goes on with it."""
        self.worker.end()

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong and where: pairs of a sentence and a path."""
        yield from self.requests.problems()
        if self.worker.last_death:
            yield f"the downloader died: {self.worker.last_death}", "downloader"

    def shown(self, now: float) -> list[dict[str, Any]]:
        """The downloads that run or are to come, for the status."""
        running = self._running
        lines = [_shown(running)] if running else []
        for path, task in self.requests.to_do():
            if running is None or task is not running.task:
                state = "waiting" if task.due > now else "queued"
                lines.append({"source": task.source, "request": str(path), "state": state, "reason": task.reason})
        return lines[:MOST_SHOWN]

    # -- the downloader --------------------------------------------------------------------------------------------

    def _give(self, now: float) -> None:
        if self._running is not None:
            return
        ready = next(((path, task) for path, task in self.requests.to_do() if task.due <= now), None)
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
        self._now = now
        for message in said:
            with self.guard.over(self._running.request if self._running else self.requests.root.autoimport):
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

    def _fault(self, path: Path, fault: str) -> None:
        """Something of ours went wrong over what the downloader said: that download has failed, the next one begins."""
        if self._running is not None and self._running.request == path:
            self._failed(self._running, f"{path}: {fault}", self._now)

    def _installed(self, running: _Running, arrivals: list[dict[str, Any]], now: float) -> None:
        paths = [arrival["path"] for arrival in arrivals]
        self._end(running, {"state": "installed", "paths": paths}, now)
        for arrival in arrivals:
            was_there = arrival["was_there"]
            events.info("download.installed", source=running.task.source, path=arrival["path"], was_there=was_there)
            self._arrived(Path(arrival["path"]), True, now)

    def _failed(self, running: _Running, reason: str, now: float) -> None:
        if running.request not in self.requests:
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
        self.requests.end(running.request, running.task, result)


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
