"""Lock: one daemon per root. Held by the kernel for as long as the process lives, so it cannot be stale."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from invokeai_daemon.errors import RootInUse
from invokeai_daemon.root import Root


@contextmanager
def held(root: Root) -> Iterator[None]:
    """Hold the root while the body runs. Raises RootInUse, with the holder's pid when it is known.

    Both the root folder and the lock file are locked: the file tells the pid, the folder cannot be deleted and made
    anew under a running daemon.
    """
    folder = os.open(root.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    note = os.open(root.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        for descriptor in (folder, note):
            _lock(descriptor, root)
        os.ftruncate(note, 0)
        os.pwrite(note, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(note, 0)
    finally:
        os.close(note)
        os.close(folder)


def _lock(descriptor: int, root: Root) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RootInUse(str(root.path), _holder(root)) from None


def _holder(root: Root) -> int | None:
    with suppress(OSError, ValueError):
        return int(root.lock_file.read_text())
    return None
