"""Stages: what happens to an image after its last step, each in a thread of its own: decoding, then publishing.

Called by the renderer. A stage takes things in order, several at once where they fit together.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Stage(Generic[T]):
    """A thread that handles what it is given, in order."""

    def __init__(
        self,
        name: str,
        handle: Callable[[list[T]], None],
        group: Callable[[T], Hashable] = id,
        limit: Callable[[T], int] = lambda thing: 1,
    ) -> None:
        """`handle` gets 1 … `limit(first)` things of the same `group`; it must not raise."""
        self._handle, self._group, self._limit = handle, group, limit
        self._waiting: deque[T] = deque()
        self._is_handling = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, thing: T) -> None:
        with self._changed:
            self._waiting.append(thing)
            self._changed.notify_all()

    def drain(self, timeout: float) -> bool:
        """Wait until nothing is left. False when that took longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._is_handling, timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                things = self._next()
                self._is_handling = True
            self._handle(things)
            # What is done is not held until the next thing comes: a picture holds on to its model.
            del things
            with self._changed:
                self._is_handling = False
                self._changed.notify_all()

    def _next(self) -> list[T]:
        first = self._waiting.popleft()
        things, group, limit = [first], self._group(first), self._limit(first)
        while self._waiting and len(things) < limit and self._group(self._waiting[0]) == group:
            things.append(self._waiting.popleft())
        return things
