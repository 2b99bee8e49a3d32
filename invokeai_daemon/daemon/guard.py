"""Guard: a fault of ours over one drop stays with that drop; the loop goes on with the others.

Used by the intake, the requests, the inbox and the settling of all three around what they do with one path. What is no
fault is an error class of its own, and handled where it comes up; whatever gets here is logged with its traceback.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from invokeai_daemon.daemon.logs import events

#: Faults that are remembered; beyond, all are tried again.
MOST = 10_000


@dataclass
class Guard:
    """The drops over which something went wrong that must not."""

    #: Told of the first fault over a path as it is now: the path, and a sentence.
    tell: Callable[[Path, str], None]
    #: What each was like then.
    _states: dict[Path, tuple[int, ...]] = field(default_factory=dict)

    @contextmanager
    def over(self, path: Path) -> Iterator[None]:
        """Whatever is raised over this path ends here."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            state = _state(path)
            if self._states.get(path) == state:
                return
            if len(self._states) >= MOST:
                self._states.clear()
            self._states[path] = state
            events.exception("drop.fault", path=path)
            self.tell(path, fault(error))

    def passes_over(self, path: Path) -> bool:
        """Whether there was a fault over this path, and it did not change since."""
        if path not in self._states:
            return False
        if self._states[path] == _state(path):
            return True
        del self._states[path]
        return False


def fault(error: Exception) -> str:
    """What is said of a fault: it is ours, and a changed drop is looked at again."""
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return (
        f"a fault of invokeai-daemon over it ({what}); the log has the details. "
        "It is looked at again when it changes, or when the daemon starts."
    )


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
