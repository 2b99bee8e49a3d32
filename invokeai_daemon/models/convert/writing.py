"""Writing: safetensors files assembled from byte ranges of another file, most of which never pass through memory.

What is cast passes through in pieces; only a turned matrix is held whole. Called by conversions; knows no models.
"""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from invokeai_daemon.models.convert import casting
from invokeai_daemon.models.convert.copying import BLOCK, Moved, copy_range, read_exactly, same_bytes, write_all

#: Bytes cast at once: they and their new form fit in a processor's cache.
CAST_BUFFER = 256 * 1024
#: Pieces cast at the same time, and how many may wait to be written.
CAST_THREADS, CAST_AHEAD = 2, 8
#: safetensors' own writer starts its data on a multiple of this. Readers map the file and ask no more than that values
#: lie on a multiple of their size, which those of the source do or not.
ALIGNMENT = 8


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
        write_all(target, header, 0)
        position = len(header)
        for step in steps(runs):
            if isinstance(step, Run):
                for piece, infinite in made(source, step, pool):
                    write_all(target, piece, position)
                    position, lost = position + len(piece), lost + infinite
                    moved(len(piece))
            else:
                copy_range(source, step[0], target, position, step[1], moved)
                position += step[1]
        os.fsync(target)
    finally:
        pool.shutdown(cancel_futures=True)
        os.close(target)
    return lost


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
        raw = b"".join(read_exactly(source, offset, length) for offset, length in run.pieces)
        turned = casting.transpose(raw, run.shape[1], len(raw) // max(1, math.prod(run.shape)))
        yield casting.cast(turned, run.stored, run.dtype)
    else:
        places = [
            (offset + start, min(CAST_BUFFER, length - start))
            for offset, length in run.pieces
            for start in range(0, length, CAST_BUFFER)
        ]
        yield from _in_turn(
            lambda place: casting.cast(read_exactly(source, *place), run.stored, run.dtype), places, pool
        )


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
