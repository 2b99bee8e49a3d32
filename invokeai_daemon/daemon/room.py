"""Room: whether the disk of the results has enough of it. Called before work is claimed; asks the system rarely."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

#: Seconds between two looks while there is room, and while there is not.
WHILE_ENOUGH, WHILE_LOW = 1.0, 5.0
#: After a failed write, work waits so long even though the disk claims to have room.
DOUBT_SECONDS = 10.0


@dataclass
class DiskRoom:
    """The free space of a folder's disk against a low-water mark."""

    folder: Path
    free_gb: float
    clock: Callable[[], float]
    is_low: bool = False
    _looked: float = field(default=float("-inf"))
    _doubted_until: float = field(default=float("-inf"))

    def look(self) -> bool:
        """Look again if it is time. Whether it just became enough."""
        now = self.clock()
        if now - self._looked < (WHILE_LOW if self.is_low else WHILE_ENOUGH):
            return False
        self._looked = now
        before = self.is_low
        self.is_low = now < self._doubted_until or self._free() < self.free_gb * 1e9
        return before and not self.is_low

    def doubt(self) -> None:
        """A write failed for lack of room or the like: hold work back for a while."""
        self.is_low = True
        self._doubted_until = self.clock() + DOUBT_SECONDS
        self._looked = self.clock()

    @property
    def is_doubted(self) -> bool:
        """A write failed a moment ago."""
        return self.clock() < self._doubted_until

    def next_time(self) -> float:
        """When to look again; infinity while there is room."""
        return self._looked + WHILE_LOW if self.is_low else float("inf")

    @property
    def why(self) -> str:
        free = self._free() / 1e9
        if free >= self.free_gb:
            return f"Something could not be written to {self.folder} a moment ago. The job goes on by itself."
        return (
            f"The disk of {self.folder} has {free:.1f} GB free; new work starts from {self.free_gb:g} GB on "
            "(free_gb under [limits] in configs/daemon.toml). Make room; the job goes on by itself."
        )

    def _free(self) -> float:
        try:
            return float(shutil.disk_usage(self.folder).free)
        except OSError:
            return 0.0
