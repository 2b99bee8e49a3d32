"""Files that survive a power cut: atomic writes, publication without overwriting, moves that are on disk when done.

Every write of the daemon that somebody may rely on goes through here. POSIX only.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Names that start with this are ours and unfinished; a start removes what a crash left behind.
TEMPORARY_PREFIX = ".tmp-"


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (a rename is on disk only after this)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_beside(path: Path) -> Path:
    """An unfinished name in the same folder as `path`, of this process and this moment alone."""
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(4).hex()}-{path.name[:100]}")


def write_atomically(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Replace `path` in one step; readers see the old bytes or the new ones. `durable` waits for the disk."""
    temporary = _written(path, content, durable)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def publish(path: Path, content: bytes, *, sync: bool = True) -> bool:
    """Make `path` appear, complete, without ever overwriting. False when it was there already.

    The content is on disk before the name appears. Without `sync` the name is durable only once the folder is synced.
    """
    temporary = _written(path, content, durable=True)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    if sync:
        sync_folder(path.parent)
    return True


def _written(path: Path, content: bytes | str, durable: bool) -> Path:
    temporary = temporary_beside(path)
    raw = content.encode() if isinstance(content, str) else content
    try:
        with temporary.open("xb") as file:
            file.write(raw)
            file.flush()
            if durable:
                os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def move(source: Path, target: Path, *, sync: bool = True) -> None:
    """Rename without overwriting; across file systems copy, fsync, unlink. Both folders are synced unless told not to.

    Raises FileExistsError when the target exists, FileNotFoundError when somebody else moved the source first.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        temporary = temporary_beside(target)
        shutil.copy2(source, temporary)
        sync_file(temporary)
        temporary.rename(target)
        source.unlink()
    if sync:
        for folder in {source.parent, target.parent}:
            sync_folder(folder)


def remove_leftovers(folders: Iterable[Path]) -> None:
    """Remove the unfinished files that a crash left in these folders (not below them)."""
    for folder in folders:
        for entry in entries(folder):
            if entry.name.startswith(TEMPORARY_PREFIX):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink(missing_ok=True)


def entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder, in no order; nothing when it is not there."""
    try:
        with os.scandir(folder) as found:
            yield from found
    except FileNotFoundError:
        return


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file (made when absent) while the body runs; waits for other holders."""
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
