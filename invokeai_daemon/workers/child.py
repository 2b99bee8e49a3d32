"""Child: a worker process, spoken to without ever waiting for it. Used by the daemon's supervision.

A worker lives in its own session, so that Ctrl-C in the daemon's terminal does not reach it. When the daemon dies, its
orders end, and so does it. What it prints on standard error becomes log lines; the last ones are kept, to say why
it died.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from invokeai_daemon.workers.protocol import MAX_LINE, Message, ProtocolError, decode, encode

#: Bytes of orders that wait for a worker to read them.
MAX_UNREAD = 64 * 1024 * 1024
_CHUNK = 1 << 18
_KEPT_LINES = 12
#: Signals by which people and service managers end a process.
_SENT_BY_OTHERS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}


class Child:
    """One running worker. `selector` watches its pipes; call `pump` when one of them is ready."""

    def __init__(
        self,
        command: Sequence[str],
        selector: selectors.BaseSelector,
        log_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._selector = selector
        self._log_line = log_line
        self._unsent = bytearray()
        self._events = bytearray()
        self._errors = bytearray()
        self._last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._memory_kills = _memory_kills()
        #: Known after its end: a signal from somebody else, not its own work, ended it.
        self.was_killed_from_outside = False
        #: Why the worker's word is not trusted any more; empty while it is.
        self.fault = ""
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._in, self._out, self._err = (
            stream.fileno() for stream in (self._process.stdin, self._process.stdout, self._process.stderr)
        )
        for descriptor in (self._in, self._out, self._err):
            os.set_blocking(descriptor, False)
        for descriptor in (self._out, self._err):
            selector.register(descriptor, selectors.EVENT_READ, self)
        self._closed: set[int] = set()
        self._wants_to_write = False

    def send(self, order: Message) -> None:
        """Give an order; it is written when the worker reads. Never blocks and never raises."""
        if self._in in self._closed:
            return
        self._unsent += encode(order)
        if len(self._unsent) > MAX_UNREAD:
            self.fault = f"it left {len(self._unsent)} bytes of orders unread"
        self._write()

    def pump(self) -> list[Message]:
        """Read what the worker said, write what it has not read yet. The events, in order."""
        self._write()
        self._read(self._err, self._errors)
        self._log_errors()
        self._read(self._out, self._events)
        return self._complete_events()

    @property
    def is_gone(self) -> bool:
        """It ended, or closed its output, or cannot be trusted any more."""
        return self._out in self._closed or bool(self.fault) or self._process.poll() is not None

    def end(self, patience: float = 0.0) -> str:
        """Wait up to `patience` seconds for its end, then kill it; how it ended, as a phrase."""
        is_ours = False
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._kill()
            is_ours = self._process.returncode == -signal.SIGKILL
        self._read(self._out, self._events)
        self._read(self._err, self._errors)
        self._log_errors()
        for descriptor in (self._in, self._out, self._err):
            self._close(descriptor)
        self.was_killed_from_outside = not is_ours and not self.fault and self._was_somebody_else()
        how = "ended by the daemon" if is_ours else _how_it_ended(self._process.returncode, self._ran_out_of_memory())
        return self.fault or how

    def close_orders(self) -> None:
        """No more orders: a worker that reads the end of its orders ends."""
        self._close(self._in)

    @property
    def last_words(self) -> str:
        """The last lines it printed on standard error."""
        return "\n".join(self._last_lines)

    def _was_somebody_else(self) -> bool:
        """Whether a signal ended it that neither its own work nor a lack of memory sends."""
        number = -(self._process.returncode or 0)
        return number in _SENT_BY_OTHERS and not (number == signal.SIGKILL and self._ran_out_of_memory() is not False)

    def _ran_out_of_memory(self) -> bool | None:
        """Whether the system killed somebody for lack of memory while it ran; None where that is not told."""
        now = _memory_kills()
        return None if now is None or self._memory_kills is None else now > self._memory_kills

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def _write(self) -> None:
        try:
            while self._unsent and self._in not in self._closed:
                written = os.write(self._in, self._unsent[:_CHUNK])
                del self._unsent[:written]
        except BlockingIOError:
            pass
        except OSError:
            self._close(self._in)
        self._watch_for_room(bool(self._unsent) and self._in not in self._closed)

    def _watch_for_room(self, wanted: bool) -> None:
        if wanted and not self._wants_to_write:
            self._selector.register(self._in, selectors.EVENT_WRITE, self)
        elif not wanted and self._wants_to_write and self._in not in self._closed:
            self._selector.unregister(self._in)
        self._wants_to_write = wanted

    def _read(self, descriptor: int, into: bytearray) -> None:
        if descriptor in self._closed:
            return
        try:
            for _ in range(64):
                chunk = os.read(descriptor, _CHUNK)
                if not chunk:
                    self._close(descriptor)
                    return
                into += chunk
        except BlockingIOError:
            return
        except OSError:
            self._close(descriptor)

    def _complete_events(self) -> list[Message]:
        *lines, rest = self._events.split(b"\n")
        self._events = bytearray(rest)
        found: list[Message] = []
        try:
            if len(rest) > MAX_LINE:
                raise ProtocolError(f"a message of more than {MAX_LINE} bytes")
            found.extend(decode(bytes(line)) for line in lines if line.strip())
        except ProtocolError as error:
            self.fault = f"it broke the protocol: {error}"
        return found

    def _log_errors(self) -> None:
        *lines, rest = self._errors.split(b"\n")
        self._errors = bytearray(rest[-_CHUNK:])
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                self._last_lines.append(text[:2000])
                self._log_line(text[:2000])

    def _close(self, descriptor: int) -> None:
        if descriptor in self._closed:
            return
        self._closed.add(descriptor)
        with suppress(KeyError, ValueError):
            self._selector.unregister(descriptor)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None and not stream.closed and stream.fileno() == descriptor:
                with suppress(OSError):
                    stream.close()


def _how_it_ended(code: int | None, ran_out_of_memory: bool | None) -> str:
    if code is None:
        return "it did not end"
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if -code != signal.SIGKILL:
        return f"killed by {name}"
    hints = {True: ", since the system ran out of memory", False: " from outside", None: ""}
    return f"killed by {name}{hints[ran_out_of_memory]}"


def _memory_kills() -> int | None:
    """How many processes the system has killed for lack of memory since it started; None where it does not say."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return None
