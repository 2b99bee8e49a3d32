"""Orders: what the importer was asked and has not answered yet. Called by the intake.

It looks at one model after the other, in order; a window of orders lies ready for it, so that a small file costs no
round trip. When it dies, the oldest order is what it died over; the others are given again, without fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invokeai_daemon.daemon.supervise import Worker
from invokeai_daemon.workers.protocol import Message

#: Orders that the importer may have at once.
WINDOW = 64
#: Seconds without work after which the importer is let go.
IDLE_SECONDS = 30.0


@dataclass
class Order:
    """One import."""

    path: Path
    #: Its signature when the order was given.
    signature: str
    #: When the importer could begin, monotonic seconds.
    since: float
    #: 0 … 1, as far as the importer told.
    progress: float = 0.0


@dataclass(frozen=True)
class Answer:
    """The end of an order."""

    order: Order
    message: Message


@dataclass(frozen=True)
class Loss:
    """An order that the importer did not survive, or did not end in time."""

    order: Order
    reason: str
    #: Whether it is likely to blame.
    costs: bool


class Orders:
    """The importer and its orders. Times are of a monotonic clock, in seconds."""

    def __init__(self, worker: Worker, timeout: float) -> None:
        self.worker = worker
        self._timeout = timeout
        self._given: dict[Path, Order] = {}
        self._hashing: Path | None = None
        self._idle_since = 0.0
        #: What the importer said of full hashes: `hashed` and `put_off`.
        self.hashes: list[Message] = []

    def __len__(self) -> int:
        return len(self._given)

    def __contains__(self, path: Path) -> bool:
        return path in self._given

    @property
    def is_busy(self) -> bool:
        return bool(self._given) or self._hashing is not None

    def room(self, now: float) -> int:
        """How many orders the importer takes now; it is started when it does not run."""
        is_there = len(self._given) < WINDOW and self._is_listening(now)
        return WINDOW - len(self._given) if is_there else 0

    def give(self, path: Path, signature: str, now: float, options: dict[str, Any]) -> None:
        self._given[path] = Order(path, signature, now)
        self.worker.send({"order": "import", "path": str(path), **options})

    def hash(self, path: Path, now: float) -> bool:
        """Have a full hash computed while there is nothing else to do. Whether it was ordered."""
        if self.is_busy or not self._is_listening(now):
            return False
        self._hashing = path
        self.worker.send({"order": "hash", "path": str(path)})
        return True

    def listen(self, now: float) -> Iterator[Answer | Loss]:
        """How orders ended since the last call. Those that were lost without fault come last, in order."""
        said, death = self.worker.listen(now)
        for message in said:
            answer = self._answered(message, now)
            if answer is not None:
                yield answer
        head = next(iter(self._given.values()), None)
        if death is not None:
            yield from self._lose(f"The importer died over it: {death}.", costs=not death.is_foreign)
        elif head is not None and now - head.since > self._timeout:
            self.worker.end()
            yield from self._lose(f"The import took longer than {self._timeout:.0f} s.", costs=True)

    def let_go(self, now: float) -> None:
        """End an importer that has had nothing to do for a while."""
        if not self.is_busy and self.worker.is_ready and now - self._idle_since > IDLE_SECONDS:
            self.worker.order_stop()
            self.worker.end(patience=1.0)

    def next_time(self) -> float:
        if not (self.is_busy or self.worker.is_running()):
            return float("inf")
        times = [self.worker.next_time()]
        head = next(iter(self._given.values()), None)
        if head is not None:
            times.append(head.since + self._timeout)
        elif not self.is_busy and self.worker.is_ready:
            times.append(self._idle_since + IDLE_SECONDS)
        return min(times)

    def stop(self) -> None:
        self.worker.end()
        self._given.clear()
        self._hashing = None

    # -- inside ----------------------------------------------------------------------------------------------------

    def _is_listening(self, now: float) -> bool:
        """Whether the importer, which is needed now, takes orders; it is started when it does not run."""
        self._idle_since = now
        return self.worker.start(now) and self.worker.is_ready

    def _answered(self, message: Message, now: float) -> Answer | None:
        kind, path = message.get("event"), Path(str(message.get("path")))
        if kind in ("hashed", "put_off"):
            self._hashing, self._idle_since = None, now
            self.worker.achieved()
            self.hashes.append(message)
            return None
        order = self._given.get(path)
        if order is None:
            return None
        if kind == "progress":
            order.progress = message["done"] / max(1, message["of"])
        if kind not in ("imported", "verdict"):
            return None
        del self._given[path]
        self._idle_since = now
        following = next(iter(self._given.values()), None)
        if following is not None:
            following.since = now
        self.worker.achieved()
        return Answer(order, message)

    def _lose(self, reason: str, costs: bool) -> Iterator[Loss]:
        lost, self._given = list(self._given.values()), {}
        if self._hashing is not None:
            self.hashes.append({"event": "put_off", "path": str(self._hashing), "died": costs and not lost})
            self._hashing = None
        for order in lost[:1]:
            yield Loss(order, reason, costs)
        for order in lost[1:]:
            yield Loss(order, "", costs=False)
