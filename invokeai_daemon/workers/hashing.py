"""Hashing: one full hash at a time, in a thread of the lowest priority. Called by the importer when it has no orders.

An order that arrives stops it at once; the daemon asks again later. Reads only.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from invokeai_daemon.errors import ModelError
from invokeai_daemon.models.contents import Stopped, full_hash
from invokeai_daemon.workers.protocol import Message

LOWEST = 19


class Hashing:
    """The hash that is being computed, if any."""

    def __init__(self, emit: Callable[[Message], None]) -> None:
        self._emit = emit
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, path: Path) -> None:
        """Begin; ends with the event `hashed`, or `put_off`."""
        self.stop()
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, args=(path,), name="hashing", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give up what is being computed; when this returns, that was told."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def _run(self, path: Path) -> None:
        if sys.platform.startswith("linux"):
            # Priorities are per thread there; its disk accesses get the lowest priority with it.
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
        try:
            before = state_of(path)
            digest = full_hash(path, self._stop)
            changed = state_of(path) != before
        except Stopped:
            self._emit({"event": "put_off", "path": str(path)})
        except ModelError as error:
            self._emit({"event": "put_off", "path": str(path), "error": str(error), "damaged": path.exists()})
        except (OSError, MemoryError) as error:
            self._emit({"event": "put_off", "path": str(path), "error": f"{path}: it cannot be hashed: {error}"})
        else:
            event = {"event": "hashed", "path": str(path), "hash": digest}
            self._emit({"event": "put_off", "path": str(path)} if changed else event)


def state_of(path: Path) -> tuple[int, int, int, int]:
    """What changes when a file changes. Raises OSError."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
