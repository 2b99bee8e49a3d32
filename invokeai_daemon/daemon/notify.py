"""Notify: tells the user's hook program what happened. Never makes the daemon wait, and never fails a job."""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from collections import deque
from typing import Any

from invokeai_daemon.daemon.logs import events

TIMEOUT = 10.0
#: Events that wait for their turn; when more pile up, the oldest are dropped.
MOST_WAITING = 1000


class Notifier:
    """Runs `[notify] hook` once per event, one at a time, with the event as JSON on standard input."""

    def __init__(self, hook: str) -> None:
        self._command = shlex.split(hook)
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._running: subprocess.Popen[bytes] | None = None
        self._since = 0.0

    def tell(self, event: str, **facts: Any) -> None:
        """`event` is job_done, job_failed, model_imported or model_rejected."""
        if self._command:
            self._waiting.append(json.dumps({"event": event, **facts}).encode())

    def step(self, now: float) -> None:
        """Look after the running hook and start the next; `now` is monotonic seconds."""
        if self._running is not None and not self._is_over(now):
            return
        if self._waiting:
            self._start(self._waiting.popleft(), now)

    def next_time(self, now: float) -> float:
        """When to call `step` again."""
        if self._running is not None:
            return now + 0.1
        return now if self._waiting else float("inf")

    def _is_over(self, now: float) -> bool:
        assert self._running is not None
        code = self._running.poll()
        if code is None and now - self._since < TIMEOUT:
            return False
        if code is None:
            self._running.kill()
            self._running.wait()
            events.warning("hook.killed", reason=f"it ran longer than {TIMEOUT:.0f} s")
        elif code != 0:
            events.warning("hook.failed", code=code)
        self._running = None
        return True

    def _start(self, event: bytes, now: float) -> None:
        # A file instead of a pipe: a hook that does not read cannot make us wait.
        with tempfile.TemporaryFile() as text:
            text.write(event)
            text.seek(0)
            try:
                self._running = subprocess.Popen(
                    self._command, stdin=text, stdout=subprocess.DEVNULL, start_new_session=True
                )
            except OSError as error:
                events.warning("hook.failed", reason=error.strerror)
                return
        self._since = now
