"""Staging: where downloads grow, and how a finished one appears among the drops. Nothing is ever overwritten.

A download grows in `<folder>/.downloads/<key>/`, on the file system that it will stay on; names that start with a dot
are no drops. The key is made of what was asked, so that the next try, also of another process, finds what is there.
"""

from __future__ import annotations

import errno
import fcntl
import filecmp
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from invokeai_daemon import files
from invokeai_daemon.errors import FetchInterrupted, InstallError
from invokeai_daemon.models.install.checks import digests_of
from invokeai_daemon.models.install.names import split_ending

FOLDER = ".downloads"
#: Days after which an unfinished download that nobody went on with is removed.
FORGOTTEN_DAYS = 14
_LOCK = "lock"


def staging_folder(folder: Path, what: str) -> Path:
    """Where a download into `folder` grows."""
    return folder / FOLDER / hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()[:24]


@contextmanager
def staged(folder: Path, what: str) -> Iterator[Path]:
    """The staging folder of a download, of this process alone while the body runs. It is removed when the body ends
    well or with an error that will not pass; what can be gone on with stays.

    Raises FetchInterrupted when another process is at it.
    """
    place = staging_folder(folder, what)
    place.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(place / _LOCK, what)
    keep = False
    try:
        yield place
    except InstallError as error:
        keep = isinstance(error, FetchInterrupted)
        raise
    except BaseException:
        keep = True
        raise
    finally:
        if not keep:
            discard(place)
        os.close(descriptor)


def _lock(path: Path, what: str) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise FetchInterrupted(f"{what} is being fetched by another process already.") from error
    os.utime(path)
    return descriptor


def discard(place: Path) -> None:
    """Remove a staging folder, and the folder of such folders when it was the last one."""
    shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError):
        place.parent.rmdir()


def discard_forgotten(folder: Path, now: float | None = None) -> None:
    """Remove the unfinished downloads into a folder that nobody went on with for long."""
    oldest = (time.time() if now is None else now) - FORGOTTEN_DAYS * 86400
    for entry in list(files.entries(folder / FOLDER)):
        with suppress(OSError):
            if max(child.stat().st_mtime for child in files.entries(Path(entry.path))) < oldest:
                discard(Path(entry.path))


def publish(
    content: Path,
    folder: Path,
    name: str,
    sidecar: str | None,
    prepare: Callable[[str], bool] = lambda name: True,
) -> tuple[Path, bool]:
    """Make a finished file or folder appear in `folder`, with its sidecar (text) before it.

    The path it has now, and whether the same content was there before. A name that is taken by something else gets a
    number. `prepare` puts what else belongs beside a name; False when it cannot be that name.
    """
    is_folder = content.is_dir()
    for candidate in _numbered(name, is_folder):
        target = folder / candidate
        if os.path.lexists(target):
            if is_same(content, target):
                return target, True
            continue
        beside = folder / f"{candidate if is_folder else split_ending(candidate)[0]}.toml"
        if sidecar is not None and not files.publish(beside, sidecar.encode()):
            continue
        if not prepare(candidate):
            continue
        if _appear(content, target):
            return target, False
        if sidecar is not None:
            beside.unlink(missing_ok=True)
    raise AssertionError("there is always another number")


def _numbered(name: str, is_folder: bool) -> Iterator[str]:
    stem, ending = (name, "") if is_folder else split_ending(name)
    yield name
    number = 2
    while True:
        yield f"{stem}-{number}{ending}"
        number += 1


def _appear(content: Path, target: Path) -> bool:
    """Give something its final name; False when the name was taken in this moment."""
    try:
        if content.is_symlink() or not content.is_dir():
            with suppress(PermissionError, NotImplementedError):
                return _link(content, target)
        files.move(content, target)
    except FileExistsError:
        return False
    return True


def _link(content: Path, target: Path) -> bool:
    """A link cannot overwrite, as a rename would; some file systems have none."""
    try:
        os.link(content, target, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EXDEV):
            raise NotImplementedError from error
        raise
    content.unlink()
    files.sync_folder(target.parent)
    return True


def is_same(content: Path, there: Path) -> bool:
    """Whether two files, or all that is in two folders, have the same bytes."""
    try:
        if content.is_dir() != there.is_dir():
            return False
        if not content.is_dir():
            return _same_file(content, there)
        names = [sorted(_files_below(folder)) for folder in (content, there)]
        return names[0] == names[1] and all(_same_file(content / name, there / name) for name in names[0])
    except OSError:
        return False


def _same_file(one: Path, other: Path) -> bool:
    same_size = one.stat().st_size == other.stat().st_size
    return same_size and filecmp.cmp(one, other, shallow=False)


def has_digest(path: Path, size: int, sha256: str) -> bool:
    """Whether a file has this size and content; the content is read only when the size is right."""
    try:
        return path.is_file() and path.stat().st_size == size and digests_of(path).sha256 == sha256
    except OSError:
        return False


def _files_below(folder: Path) -> Iterator[str]:
    for above, _, names in os.walk(folder):
        yield from (os.path.relpath(os.path.join(above, name), folder) for name in names)  # noqa: PTH118
