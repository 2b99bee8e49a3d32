"""Disk: many small durable writes at the price of a few.

A file system answers one fsync in milliseconds and many at once in hardly more, since they share a commit. So what a
batch of jobs must have on disk is asked for together, from a few threads, and awaited once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from invokeai_daemon import files

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

THREADS = 8

_pool: ThreadPoolExecutor | None = None


def together(calls: Sequence[Callable[[], object]]) -> list[BaseException | None]:
    """Run the calls side by side and wait for all. Per call: None, or the OSError it raised."""
    if len(calls) == 1:
        return [_outcome(calls[0])]
    global _pool
    if calls and _pool is None:
        # Imported late: `status` looks at the spool too, and must be quick.
        from concurrent.futures import ThreadPoolExecutor

        _pool = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")
    return list(_pool.map(_outcome, calls)) if _pool else []


def sync(folders: Iterable[Path], written: Iterable[Path] = ()) -> None:
    """Make the names in these folders and the content of these files durable. Vanished ones are passed over.

    Raises the first OSError of the disk.
    """
    calls = [_syncing(files.sync_folder, path) for path in folders]
    calls += [_syncing(files.sync_file, path) for path in written]
    for error in together(calls):
        if error is not None:
            raise error


def _outcome(call: Callable[[], object]) -> OSError | None:
    try:
        call()
    except OSError as error:
        return error
    return None


def _syncing(function: Callable[[Path], None], path: Path) -> Callable[[], None]:
    def call() -> None:
        with suppress(FileNotFoundError):
            function(path)

    return call
