"""Status: `.state/status.json`, what the `status` command and scripts read. Written when something changed.

At most twice a second, and every two seconds as a sign of life. Gathered from counts that are kept anyway: writing it
costs the same with ten jobs and with ten thousand.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from invokeai_daemon import files

SHORTEST, HEARTBEAT = 0.5, 2.0

Gather = Callable[[], dict[str, Any]]


class StatusFile:
    """Writes what `gather` returns, with pid and heartbeat. `gather` gives the keys of the status but these two."""

    def __init__(self, path: Path, gather: Gather, wall: Callable[[], float] = time.time) -> None:
        self._path = path
        self._gather = gather
        self._wall = wall
        self._written = float("-inf")
        self._last: dict[str, Any] | None = None
        self._since: dict[tuple[str, str], float] = {}

    def step(self, now: float) -> None:
        """Write if it is time."""
        if now - self._written < SHORTEST:
            return
        gathered = self._gather()
        if gathered != self._last or now - self._written >= HEARTBEAT:
            self._write(gathered)
            self._written, self._last = now, gathered

    def next_time(self) -> float:
        return self._written + HEARTBEAT

    def end(self) -> None:
        """The daemon stops: say so."""
        self._write({**self._gather(), "state": "stopped", "current": None})

    @property
    def last(self) -> dict[str, Any]:
        return self._last or {}

    def _write(self, gathered: dict[str, Any]) -> None:
        status = {"pid": os.getpid(), "heartbeat": self._wall(), **gathered}
        status["problems"] = self._dated(gathered.get("problems", ()))
        text = json.dumps(status, ensure_ascii=False).encode("utf-8", "backslashreplace")
        with suppress(OSError):
            files.write_atomically(self._path, text + b"\n", durable=False)

    def _dated(self, problems: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
        """Each problem with the moment it was first seen, in seconds since 1970."""
        now = self._wall()
        self._since = {problem: self._since.get(problem, now) for problem in problems}
        return [{"what": what, "where": where, "since": since} for (what, where), since in self._since.items()]


def one_line(status: dict[str, Any]) -> str:
    """The status as one line, for the service manager."""
    jobs = status.get("jobs", {})
    counts = ", ".join(
        f"{jobs[state]} {state}" for state in ("running", "queued", "waiting", "failed") if jobs.get(state)
    )
    current = status.get("current")
    doing = f"job {current['job']}, image {current['image']} of {current['of']}" if current else "idle"
    return f"{doing}; {counts}" if counts else doing


def read_images_done(path: Path) -> int:
    """How many images the last status counted; 0 when there is none."""
    try:
        return int(json.loads(path.read_bytes())["images"]["done"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
