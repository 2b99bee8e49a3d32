"""Copying: safetensors files assembled from byte ranges of another file, which never pass through tensors.

The kernel copies where it can, and shares blocks on file systems that can; what is cast passes through in pieces, and
only a turned matrix is held whole. Memory use does not depend on the model. Called by conversions, knows no models.
"""

from __future__ import annotations

import errno
import json
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.convert import casting
from invokeai_daemon.models.header import Checksums, opened

CHUNK = 32 * 1024 * 1024
BUFFER = 256 * 1024
#: Bytes cast at once: they and their new form fit in a processor's cache.
CAST_BUFFER = 256 * 1024
#: Pieces cast at the same time, and how many may wait to be written.
CAST_THREADS, CAST_AHEAD = 2, 8
#: File systems share whole blocks of this size, if they lie alike in both files.
BLOCK = 4096
#: safetensors' own writer starts its data on a multiple of this. Readers map the file and ask no more than that values
#: lie on a multiple of their size, which those of the source do or not.
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
    #: Offset and length of each piece; without any the tensor is an identity matrix.
    pieces: tuple[tuple[int, int], ...]
    #: What the source stores it as.
    stored: str
    #: The source has its rows as columns.
    transposed: bool = False

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * casting.WIDTHS[self.dtype]

    @property
    def offset(self) -> int:
        """Of the first piece."""
        return self.pieces[0][0] if self.pieces else 0

    @property
    def is_copied(self) -> bool:
        """Whether its bytes arrive as they are."""
        return bool(self.pieces) and not self.transposed and self.stored == self.dtype


def write_safetensors(source: int, path: Path, runs: Sequence[Run], moved: Moved) -> int:
    """Write a new file of these tensors, in this order, and put it on disk. `source` is an open descriptor.

    Gives how many values became infinite. Raises UnreadableModel when the source ends early, OSError when the disk
    fails.
    """
    header, lost = safetensors_header(runs), 0
    target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    pool = ThreadPoolExecutor(CAST_THREADS)
    try:
        _write_all(target, header, 0)
        position = len(header)
        for step in steps(runs):
            if isinstance(step, Run):
                for piece, infinite in made(source, step, pool):
                    _write_all(target, piece, position)
                    position, lost = position + len(piece), lost + infinite
                    moved(len(piece))
            else:
                _copy(source, step[0], target, position, step[1], moved)
                position += step[1]
        os.fsync(target)
    finally:
        pool.shutdown(cancel_futures=True)
        os.close(target)
    return lost


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
            _copy(source, 0, target, 0, size, moved)
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


def safetensors_header(runs: Sequence[Run]) -> bytes:
    """Length and JSON, padded so that the first tensor lies in its block as it does in the source."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for run in runs:
        end = position + run.nbytes
        entries[run.name] = {"dtype": run.dtype, "shape": run.shape, "data_offsets": [position, end]}
        position = end
    raw = json.dumps(entries, separators=(",", ":")).encode()
    raw += b" " * _padding(8 + len(raw), runs)
    return len(raw).to_bytes(8, "little") + raw


def _padding(length: int, runs: Sequence[Run]) -> int:
    """So that the first tensor, whose values are the widest, lies in its block as in the source."""
    if not runs or not runs[0].is_copied or runs[0].offset % casting.WIDTHS[runs[0].dtype]:
        return -length % ALIGNMENT
    return (runs[0].offset - length) % BLOCK


def steps(runs: Sequence[Run]) -> Iterator[Run | tuple[int, int]]:
    """What to do in order: ranges to copy as offset and length, neighbours joined, and tensors to make."""
    offset = length = 0
    for run in runs:
        for start, size in run.pieces if run.is_copied else ():
            if length and offset + length == start:
                length += size
                continue
            if length:
                yield offset, length
            offset, length = start, size
        if not run.is_copied:
            if length:
                yield offset, length
            length = 0
            yield run
    if length:
        yield offset, length


def made(source: int, run: Run, pool: Executor | None = None) -> Iterator[tuple[casting.Bytes, int]]:
    """The bytes of a tensor that is not just copied, in pieces, and how many values of each became infinite.

    With a `pool`, several pieces are cast at a time.
    """
    if not run.pieces:
        yield casting.identity(run.shape[0], run.dtype), 0
    elif run.transposed:
        raw = b"".join(_read(source, offset, length) for offset, length in run.pieces)
        turned = casting.transpose(raw, run.shape[1], len(raw) // max(1, math.prod(run.shape)))
        yield casting.cast(turned, run.stored, run.dtype)
    else:
        places = [
            (offset + start, min(CAST_BUFFER, length - start))
            for offset, length in run.pieces
            for start in range(0, length, CAST_BUFFER)
        ]
        yield from _in_turn(lambda place: casting.cast(_read(source, *place), run.stored, run.dtype), places, pool)


def _in_turn(
    make: Callable[[tuple[int, int]], tuple[casting.Bytes, int]],
    places: Sequence[tuple[int, int]],
    pool: Executor | None,
) -> Iterator[tuple[casting.Bytes, int]]:
    """What is made of each place, in their order, a few of them made ahead."""
    if pool is None:
        yield from map(make, places)
        return
    ahead: deque[Future[tuple[casting.Bytes, int]]] = deque()
    for place in places:
        ahead.append(pool.submit(make, place))
        if len(ahead) > CAST_AHEAD:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _read(source: int, offset: int, length: int) -> bytes:
    piece = os.pread(source, length, offset)
    if len(piece) != length:
        raise _ended(offset + len(piece))
    return piece


def _ended(offset: int) -> UnreadableModel:
    return UnreadableModel(f"The file ended at byte {offset} while it was copied; was it being replaced?")


def _copy(source: int, offset: int, target: int, position: int, length: int, moved: Moved) -> None:
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
    _write_all(target, piece, position)
    return len(piece)


def holds(target: int, position: int, source: int, run: Run) -> bool:
    """Whether an open file holds at this place what a run makes of the source."""
    if not run.is_copied:
        pieces = (piece for piece, _ in made(source, run))
        return all(os.pread(target, len(piece), position + place) == piece for place, piece in _placed(pieces))
    for offset, length in run.pieces:
        if not same_bytes(source, offset, target, position, length):
            return False
        position += length
    return True


def _placed(pieces: Iterator[casting.Bytes]) -> Iterator[tuple[int, casting.Bytes]]:
    place = 0
    for piece in pieces:
        yield place, piece
        place += len(piece)


def same_bytes(one: int, offset: int, other: int, position: int, length: int) -> bool:
    """Whether two open files hold the same bytes at these places."""
    for start in range(0, length, BUFFER):
        count = min(BUFFER, length - start)
        if os.pread(one, count, offset + start) != os.pread(other, count, position + start):
            return False
    return True


def _write_all(target: int, content: casting.Bytes, position: int) -> None:
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
