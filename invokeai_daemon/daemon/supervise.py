"""Supervision: keeps a worker alive. Starts it, hears its events, notices when it dies or falls silent, replaces it.

Called by the keepers of the renderer and of the importer. What a death costs is theirs to decide; here it costs a
pause that grows while the worker achieves nothing.
"""

from __future__ import annotations

import selectors
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from invokeai_daemon.daemon.logs import events
from invokeai_daemon.workers.child import Child
from invokeai_daemon.workers.protocol import Message

LONGEST_PAUSE = 60.0
#: A worker that takes longer to say `ready` is replaced, even where a step may take longer.
LONGEST_START = 300.0

State = Literal["down", "starting", "ready"]


@dataclass(frozen=True)
class Death:
    """A worker is gone without having been asked to."""

    #: How it ended, as a phrase: "killed by SIGKILL".
    how: str
    #: The last line it printed on standard error.
    last_words: str
    #: Whether it was taking orders.
    was_ready: bool
    #: Somebody else ended it; what it worked on is hardly to blame.
    is_foreign: bool = False

    def __str__(self) -> str:
        return f"{self.how} ({self.last_words})" if self.last_words else self.how


class Worker:
    """One worker and its replacements. Times are of a monotonic clock, in seconds."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        selector: selectors.BaseSelector,
        silence: float,
    ) -> None:
        self.name = name
        self.state: State = "down"
        #: What it said of itself when it became ready.
        self.about: Message = {}
        self.deaths_in_a_row = 0
        #: How the last one died; empty while its replacement achieves something.
        self.last_death = ""
        self._asked_to_stop = False
        self._command = list(command)
        self._selector = selector
        self._silence = silence
        self._child: Child | None = None
        #: What it said between the last look and its end.
        self._unheard: list[Message] = []
        self._heard = 0.0
        self._not_before = 0.0

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self, now: float) -> bool:
        """Start it, unless it runs or its pause lasts. Whether it runs."""
        if self._child is None and now >= self._not_before:
            try:
                self._child = Child(self._command, self._selector, self._log)
            except OSError as error:
                self._pause(now, f"could not be started: {error.strerror}")
                events.error("worker.start_failed", worker=self.name, reason=error.strerror)
                return False
            self.state, self._heard, self._asked_to_stop = "starting", now, False
            events.info("worker.started", worker=self.name, pid=self._child.pid)
        return self._child is not None

    def send(self, order: Message) -> None:
        if self._child is not None:
            self._child.send(order)

    def listen(self, now: float) -> tuple[list[Message], Death | None]:
        """What it said since the last call, without beats; and its death, once, after its last events."""
        if self._child is None:
            return [], None
        heard = self._child.pump()
        if heard:
            self._heard = now
        said = self._about_others(heard)
        self._unheard = []
        death = self._death(now)
        return said + self._about_others(self._unheard), death

    def achieved(self) -> None:
        """It did what it is there for: its past deaths are forgiven."""
        self.deaths_in_a_row, self.last_death = 0, ""

    def next_time(self) -> float:
        """When `start` or `listen` should be called though nothing happened."""
        if self._child is None:
            return self._not_before
        return self._heard + self._allowed_silence

    def order_stop(self) -> None:
        """Ask it to end; one that is not listening yet is ended at once."""
        if self._child is None:
            return
        self._asked_to_stop = True
        if self.state == "ready":
            self._child.send({"order": "stop"})
            self._child.pump()
        else:
            self.end()

    def is_running(self) -> bool:
        return self._child is not None and not self._child.is_gone

    def end(self, patience: float = 0.0) -> list[Message]:
        """End it, by force after `patience` seconds. The last things it said."""
        if self._child is None:
            return []
        how = self._child.end(patience)
        events.info("worker.ended", worker=self.name, pid=self._child.pid, how=how)
        said = self._about_others(self._child.pump())
        self._child, self.state = None, "down"
        return said

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def _allowed_silence(self) -> float:
        return self._silence if self.state == "ready" else max(self._silence, LONGEST_START)

    def _about_others(self, heard: list[Message]) -> list[Message]:
        """Take in what it said of itself; the rest."""
        return [message for message in heard if not self._is_about_itself(message)]

    def _is_about_itself(self, message: Message) -> bool:
        if message.get("event") == "ready":
            self.state, self.about = "ready", message
            events.info("worker.ready", worker=self.name, pid=self.pid)
            return True
        return message.get("event") == "beat"

    def _death(self, now: float) -> Death | None:
        assert self._child is not None
        is_silent = False
        if self._child.is_gone:
            how = self._child.end(patience=1.0)
        elif now - self._heard > self._allowed_silence:
            self._child.end()
            is_silent = True
            how = f"killed because it was silent for {now - self._heard:.0f} s"
        else:
            return None
        self._unheard = self._child.pump()
        was_ready = self.is_ready or any(message.get("event") == "ready" for message in self._unheard)
        last_words = self._child.last_words.splitlines()[-1:]
        death = Death(how, "".join(last_words), was_ready, self._child.was_killed_from_outside and not is_silent)
        self._child, self.state = None, "down"
        if self._asked_to_stop:
            events.info("worker.ended", worker=self.name, how=death.how)
            return None
        self._pause(now, str(death))
        events.warning("worker.died", worker=self.name, how=death.how, last_words=death.last_words)
        return death

    @property
    def is_ready(self) -> bool:
        return self.state == "ready"

    def _pause(self, now: float, how: str) -> None:
        self.deaths_in_a_row += 1
        self.last_death = how
        pause = 0.0 if self.deaths_in_a_row == 1 else min(LONGEST_PAUSE, 0.5 * 2 ** (self.deaths_in_a_row - 2))
        self._not_before = now + pause

    def _log(self, line: str) -> None:
        events.info("worker.says", worker=self.name, line=line)
