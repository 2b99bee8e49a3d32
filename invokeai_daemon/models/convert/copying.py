"""Copying: safetensors files assembled from byte ranges of another file, which never pass through tensors.

The kernel copies where it can, and shares blocks on file systems that can; memory use does not depend on the model.
Called by the plan. Knows nothing of models.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from invokeai_daemon.errors import UnreadableModel

CHUNK = 32 * 1024 * 1024
BUFFER = 256 * 1024
#: File systems share whole blocks of this size, if they lie alike in both files.
BLOCK = 4096
#: safetensors readers map the file: values must lie on a multiple of their size.
ALIGNMENT = 8
#: What says that the kernel cannot copy between these two files.
UNABLE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}

#: Told how many more bytes are done.
Moved = Callable[[int], None]


@dataclass(frozen=True)
class Run:
    """A tensor of the new file, and where its bytes lie in the source."""

    name: str
    #: safetensors' name, "F16".
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def write_safetensors(source: int, path: Path, runs: Sequence[Run], moved: Moved) -> None:
    """Write a new file of these tensors, in this order, and put it on disk. `source` is an open descriptor.

    Raises UnreadableModel when the source ends early, OSError when the disk does.
    """
    header = safetensors_header(runs)
    target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        _write_all(target, header, 0)
        position = len(header)
        for offset, length in merged(runs):
            _copy(source, offset, target, position, length, moved)
            position += length
        os.fsync(target)
    finally:
        os.close(target)


def safetensors_header(runs: Sequence[Run]) -> bytes:
    """Length and JSON, padded so that the first tensor lies in its block as it does in the source."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for run in runs:
        end = position + run.nbytes
        entries[run.name] = {"dtype": run.dtype, "shape": run.shape, "data_offsets": [position, end]}
        position = end
    raw = json.dumps(entries, separators=(",", ":")).encode()
    raw += b" " * _padding(8 + len(raw), runs[0].offset if runs else 0)
    return len(raw).to_bytes(8, "little") + raw


def _padding(length: int, offset: int) -> int:
    if offset % ALIGNMENT:
        return -length % ALIGNMENT
    return (offset - length) % BLOCK


def merged(runs: Sequence[Run]) -> list[tuple[int, int]]:
    """Offset and length of the ranges to copy, neighbours joined."""
    ranges: list[tuple[int, int]] = []
    for run in runs:
        if ranges and sum(ranges[-1]) == run.offset:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + run.nbytes)
        else:
            ranges.append((run.offset, run.nbytes))
    return ranges


def _copy(source: int, offset: int, target: int, position: int, length: int, moved: Moved) -> None:
    copy_some = _copy_in_kernel if hasattr(os, "copy_file_range") else _copy_through_buffer
    while length:
        # Stops on a block of the source, so that the next piece starts on one.
        wanted = min(length, CHUNK - offset % BLOCK)
        try:
            copied = copy_some(source, offset, target, position, wanted)
        except OSError as error:
            if copy_some is _copy_through_buffer or error.errno not in UNABLE:
                raise
            copied = 0
        if not copied:
            if copy_some is _copy_through_buffer:
                raise UnreadableModel(f"The file ended at byte {offset} while it was copied; was it being replaced?")
            copy_some = _copy_through_buffer
        offset, position, length = offset + copied, position + copied, length - copied
        moved(copied)


def _copy_in_kernel(source: int, offset: int, target: int, position: int, length: int) -> int:
    return os.copy_file_range(source, target, length, offset, position)


def _copy_through_buffer(source: int, offset: int, target: int, position: int, length: int) -> int:
    piece = os.pread(source, min(length, BUFFER), offset)
    _write_all(target, piece, position)
    return len(piece)


def same_bytes(one: int, offset: int, other: int, position: int, length: int) -> bool:
    """Whether two open files hold the same bytes at these places."""
    for start in range(0, length, BUFFER):
        count = min(BUFFER, length - start)
        if os.pread(one, count, offset + start) != os.pread(other, count, position + start):
            return False
    return True


def _write_all(target: int, content: bytes, position: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(target, view, position)
        view, position = view[written:], position + written


def content_hash(source: int, stop: threading.Event | None = None) -> str:
    """The hash of all bytes of an open file, "blake3:…". Raises InterruptedError when told to stop."""
    import blake3

    hasher, buffer, position = blake3.blake3(), bytearray(BUFFER), 0
    while length := os.preadv(source, [buffer], position):
        hasher.update(memoryview(buffer)[:length])
        position += length
        if stop is not None and stop.is_set():
            raise InterruptedError
    return f"blake3:{hasher.hexdigest()}"
