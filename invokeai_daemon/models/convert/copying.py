"""Copying: byte ranges from file to file, and a hash of what is read. Memory use does not depend on their length.

The kernel copies where it can, and shares blocks on file systems that can. Called by conversions; knows no models.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.header import Checksums, opened

CHUNK = 32 * 1024 * 1024
BUFFER = 256 * 1024
#: File systems share whole blocks of this size, if they lie alike in both files.
BLOCK = 4096
#: What says that the kernel cannot copy between these two files.
UNABLE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}

#: Told how many more bytes are done.
Moved = Callable[[int], None]


def copy_file(path: Path, copy: Path, moved: Moved, *, may_link: bool = False) -> None:
    """Copy a whole file to a new one and put it on disk. Raises as `write_safetensors` does.

    With `may_link` the copy is a second name of the file where the file system can do that.
    """
    if may_link and _linked(path, copy):
        moved(path.stat().st_size)
        return
    with opened(path) as (source, size):
        target = os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            copy_range(source, 0, target, 0, size, moved)
            os.fsync(target)
        finally:
            os.close(target)


def _linked(path: Path, copy: Path) -> bool:
    try:
        copy.hardlink_to(path)
    except OSError as error:
        if error.errno in {*UNABLE, errno.EMLINK}:
            return False
        raise
    return True


def copy_range(source: int, offset: int, target: int, position: int, length: int, moved: Moved) -> None:
    """Copy between open files. Raises UnreadableModel when the source ends early, OSError when the disk fails."""
    copy_some = _copy_in_kernel if hasattr(os, "copy_file_range") else _copy_through_buffer
    while length:
        wanted = min(length, _to_boundary(offset, length))
        try:
            copied = copy_some(source, offset, target, position, wanted)
        except OSError as error:
            if copy_some is _copy_through_buffer or error.errno not in UNABLE:
                raise
            copied = 0
        if not copied:
            if copy_some is _copy_through_buffer:
                raise _ended(offset)
            copy_some = _copy_through_buffer
        offset, position, length = offset + copied, position + copied, length - copied
        moved(copied)


def _to_boundary(offset: int, length: int) -> int:
    """How much to copy at once: up to a block of the source first, then whole blocks, since these can be shared."""
    if offset % BLOCK:
        return BLOCK - offset % BLOCK
    return min(CHUNK, length - length % BLOCK) or length


def _copy_in_kernel(source: int, offset: int, target: int, position: int, length: int) -> int:
    return os.copy_file_range(source, target, length, offset, position)


def _copy_through_buffer(source: int, offset: int, target: int, position: int, length: int) -> int:
    piece = os.pread(source, min(length, BUFFER), offset)
    write_all(target, piece, position)
    return len(piece)


def read_exactly(source: int, offset: int, length: int) -> bytes:
    piece = os.pread(source, length, offset)
    if len(piece) != length:
        raise _ended(offset + len(piece))
    return piece


def _ended(offset: int) -> UnreadableModel:
    return UnreadableModel(f"The file ended at byte {offset} while it was copied; was it being replaced?")


def same_bytes(one: int, offset: int, other: int, position: int, length: int) -> bool:
    """Whether two open files hold the same bytes at these places."""
    for start in range(0, length, BUFFER):
        count = min(BUFFER, length - start)
        if os.pread(one, count, offset + start) != os.pread(other, count, position + start):
            return False
    return True


def write_all(target: int, content: bytes | memoryview, position: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(target, view, position)
        view, position = view[written:], position + written


def content_hash(source: int, stop: threading.Event | None = None, watch: Checksums | None = None) -> str:
    """The hash of all bytes of an open file, "blake3:…"; `watch` compares the file's own checksums on the way.

    Raises InterruptedError when told to stop, UnreadableModel when a checksum is wrong.
    """
    import blake3

    hasher, buffer, position = blake3.blake3(), bytearray(BUFFER), 0
    while length := os.preadv(source, [buffer], position):
        piece = memoryview(buffer)[:length]
        hasher.update(piece)
        if watch is not None:
            watch.feed(piece)
        position += length
        if stop is not None and stop.is_set():
            raise InterruptedError
    if watch is not None:
        watch.finish()
    return f"blake3:{hasher.hexdigest()}"
