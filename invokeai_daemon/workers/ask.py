"""Asking the importer: one order given to a confined child, its final event waited for. Called by commands.

The daemon does not use this; it never waits. Whatever the file does to the child, the answer is an event: a child that
dies, or takes too long, is a verdict too, and the next order gets a new child.
"""

from __future__ import annotations

import selectors
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from invokeai_daemon.models.identity import Identity, Need, Verdict
from invokeai_daemon.workers.child import Child
from invokeai_daemon.workers.protocol import Message

MEMORY_MB, CPU_SECONDS, TIMEOUT = 4096, 600.0, 3600.0
#: Events that end an order.
FINAL = ("imported", "verdict", "hashed", "put_off")
UNKNOWN = Identity("unknown", "unknown", "unknown")


def ask_importer(
    order: Message,
    *,
    memory_mb: int = MEMORY_MB,
    cpu_seconds: float = CPU_SECONDS,
    on_event: Callable[[Message], None] | None = None,
    timeout: float = TIMEOUT,
) -> Message:
    """Give one order to an importer of its own; the event that ended it. Raises OSError when there can be no child."""
    root = Path(order["root"]) if "root" in order else None
    with Importer(root, memory_mb=memory_mb, cpu_seconds=cpu_seconds) as importer:
        return importer.ask(order, on_event=on_event, timeout=timeout)


class Importer:
    """A confined child for several orders, started with the first. Without a `root` it can write nothing."""

    def __init__(
        self, root: Path | None = None, *, memory_mb: int = MEMORY_MB, cpu_seconds: float = CPU_SECONDS
    ) -> None:
        self._command = [sys.executable, "-m", "invokeai_daemon.workers.importer", "--memory-mb", str(memory_mb)]
        self._command += ["--cpu-seconds", str(cpu_seconds)]
        self._command += ["--root", str(root)] if root else ["--read-only"]
        self._selector = selectors.DefaultSelector()
        self._child: Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._selector.close()

    def ask(
        self, order: Message, *, on_event: Callable[[Message], None] | None = None, timeout: float = TIMEOUT
    ) -> Message:
        """The event that ended the order; the others, such as `progress`, go to `on_event`."""
        child = self._child = self._child or Child(self._command, self._selector)
        child.send(order)
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            # What closed its output may be seen to have ended only later, and nothing would wake this up then.
            if not child.is_gone:
                self._selector.select(left)
            is_gone = child.is_gone
            for event in child.pump():
                if event.get("path") == order.get("path") and event.get("event") in FINAL:
                    return event
                if on_event is not None and event.get("event") not in ("ready", "beat"):
                    on_event(event)
            if is_gone:
                words = child.last_words.splitlines()[-1:]
                how = self._end()
                return _failed(order, f"The importer died over it: {' '.join([f'{how}.', *words])}")
        self._end()
        return _failed(order, f"Looking at it took longer than {timeout:.0f} s.")

    def _end(self) -> str:
        child, self._child = self._child, None
        if child is None:
            return ""
        child.close_orders()
        return child.end(patience=1.0)


def verdict_of(event: Message) -> Verdict:
    """What an event of the order `identify` says."""
    nearest = tuple((str(name), str(why)) for name, why in event.get("nearest", ()))
    return Verdict(event["state"], _identity_of(event["identity"]), event.get("reason", ""), nearest)


def _identity_of(facts: dict[str, Any]) -> Identity:
    lists = {key: tuple(facts.get(key, ())) for key in ("evidence", "assumed")}
    return Identity(**{**facts, **lists, "needs": tuple(Need(**need) for need in facts.get("needs", ()))})


def _failed(order: Message, why: str) -> Message:
    return {
        "event": "verdict",
        "path": order.get("path", ""),
        "state": "rejected",
        "identity": UNKNOWN.as_json(),
        "reason": f"{order.get('path', '')}: {why}",
        "nearest": [],
        "temporary": False,
    }
