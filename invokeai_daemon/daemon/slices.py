"""Slices: work that may be long is done a slice in each step of the loop, so that nobody waits for it.

Used by the intake and the requests for a scan of all of autoimport/.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

#: Seconds of one slice.
SLICE = 0.2


class Slices:
    """One piece of work at a time; begun again while it is under way, it is done once more afterwards."""

    def __init__(self, work: Callable[[], Iterator[None]]) -> None:
        self._work = work
        self._under_way: Iterator[None] | None = None
        self._is_wanted = False
        self._took = 0.0
        #: Seconds that the last whole piece of work took.
        self.last_took = 0.0

    @property
    def is_done(self) -> bool:
        return self._under_way is None and not self._is_wanted

    def begin(self) -> None:
        self._is_wanted = True
        self.step()

    def step(self) -> None:
        """Do a slice, if there is something to do."""
        started = time.monotonic()
        while not self.is_done and time.monotonic() - started < SLICE:
            if self._under_way is None:
                self._under_way, self._is_wanted, self._took = self._work(), False, 0.0
            before = time.monotonic()
            if self._is_at_its_end(self._under_way):
                self._under_way = None
                self.last_took = self._took + time.monotonic() - before
                return
            self._took += time.monotonic() - before

    def _is_at_its_end(self, work: Iterator[None]) -> bool:
        try:
            return next(work, _END) is _END
        except BaseException:
            # It cannot go on; whoever asks again begins anew.
            self._under_way = None
            raise


_END = object()
