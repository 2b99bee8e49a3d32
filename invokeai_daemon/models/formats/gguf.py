"""The header of a GGUF file: keys and values, then names, shapes, types and offsets of the tensors.

Called by `models.header`, and by `settled` for the length that a file must have. It is read in one pass, and every
length that the file claims is compared with what is left of it before anything is read or kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.formats.base import MAX_SIDE, MAX_TENSORS, Header, TensorInfo, shown, unfit_name
from invokeai_daemon.models.formats.gguf_values import MAX_HEADER, U32, U64, CutOffHeader, HeaderReader, broken

MAX_KEYS = 20_000
MAX_DIMENSIONS = 4
#: Where the tensors lie on multiples of, unless the file says another power of two.
ALIGNMENT, MAX_ALIGNMENT = 32, 1024 * 1024
#: Key under which a file keeps the shape of a tensor that the format cannot hold, before the tensor's name.
TRUE_SHAPE = "comfy.gguf.orig_shape."

#: Types of tensors by their number: name, elements of a block, bytes of a block. Plain ones are named as in
#: safetensors; numbers that are missing belong to types that were given up.
TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
#: Elements and bytes of a block, by the name of a quantised type.
BLOCKS = {name: (elements, size) for name, elements, size in TYPES.values() if elements > 1}


def read_gguf(path: Path, descriptor: int, size: int) -> Header:
    """The header of the open file. Raises UnreadableModel."""
    found = _read(path, descriptor, size)
    end = max((tensor.end for tensor in found.tensors), default=found.start)
    if end > size:
        raise UnreadableModel(
            f"{path}: cut off: {end - size:,} of its {end:,} bytes are missing. It is still being copied or the copy "
            "failed: copy it again."
        )
    _check_layout(path, found, size)
    tensors: dict[str, TensorInfo] = {}
    for tensor in found.tensors:
        if tensor.name in tensors:
            raise broken(path, f"two of its tensors are called {shown(tensor.name)}")
        shape = _true_shape(path, tensor, found.values)
        tensors[tensor.name] = TensorInfo(tensor.dtype, shape, tensor.offset, tensor.nbytes)
    texts = {key: _as_text(value) for key, value in found.values.items() if not key.startswith(TRUE_SHAPE)}
    return Header(path, "gguf", size, tensors, texts)


def length_of_gguf(path: Path, descriptor: int, size: int, most: int = MAX_HEADER) -> int:
    """Bytes that the open file must have; more than `size` when its header has not come.

    Raises UnreadableModel, also for a header of more than `most` bytes.
    """
    try:
        found = _read(path, descriptor, size, most)
    except CutOffHeader:
        return size + 1
    return max((tensor.end for tensor in found.tensors), default=found.start)


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: str
    #: In torch's order: the slowest dimension first.
    shape: tuple[int, ...]
    #: Absolute, in bytes.
    offset: int
    nbytes: int

    @property
    def end(self) -> int:
        return self.offset + self.nbytes


@dataclass(frozen=True)
class _Content:
    values: Mapping[str, Any]
    tensors: tuple[_Tensor, ...]
    #: Where the tensors may begin.
    start: int
    alignment: int


def _read(path: Path, descriptor: int, size: int, most: int = MAX_HEADER) -> _Content:
    reader = HeaderReader(path, descriptor, size, most)
    version = _version(path, reader)
    tensors, keys = reader.number(U64), reader.number(U64)
    if tensors > MAX_TENSORS or keys > MAX_KEYS:
        raise broken(path, f"it would have {tensors:,} tensors and {keys:,} keys (version {version})")
    values = dict(_values(path, reader, keys))
    alignment = _alignment(path, values)
    raw = [_tensor(path, reader) for _ in range(tensors)]
    start = -(-reader.at // alignment) * alignment
    found = tuple(_placed(path, name, kind, shape, start, offset) for name, kind, shape, offset in raw)
    return _Content(values, found, start, alignment)


def _version(path: Path, reader: HeaderReader) -> int:
    reader.take(4)
    version: int = reader.number(U32)
    if version in (2, 3):
        return version
    if int.from_bytes(version.to_bytes(4, "big"), "little") in (1, 2, 3):
        raise UnreadableModel(f"{path}: a GGUF file written on a big-endian machine. Get a little-endian one.")
    raise UnreadableModel(f"{path}: a GGUF file of version {version}; versions 2 and 3 are read. Get the model again.")


def _values(path: Path, reader: HeaderReader, count: int) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for _ in range(count):
        key = reader.text(strict=True)
        if key in seen:
            raise broken(path, f"the key {shown(key)} occurs twice")
        if wrong := unfit_name(key.removeprefix(TRUE_SHAPE)):
            raise broken(path, f"the key {shown(key)} {wrong}")
        seen.add(key)
        yield key, reader.value(reader.number(U32))


def _alignment(path: Path, values: Mapping[str, Any]) -> int:
    alignment = values.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise broken(path, f"its alignment {shown(str(alignment))} is no sensible power of two")
    return alignment


def _tensor(path: Path, reader: HeaderReader) -> tuple[str, int, tuple[int, ...], int]:
    """Name, number of the type, shape and offset of the next tensor, as they are written."""
    name = reader.text(strict=True)
    if wrong := unfit_name(name):
        raise broken(path, f"the name {shown(name)} of a tensor {wrong}")
    dimensions = reader.number(U32)
    if dimensions > MAX_DIMENSIONS:
        raise broken(path, f"{shown(name)} would have {dimensions:,} dimensions")
    shape = tuple(reader.number(U64) for _ in range(dimensions))
    if max(shape, default=0) > MAX_SIDE:
        raise broken(path, f"the shape of {shown(name)} cannot be")
    kind, offset = reader.number(U32), reader.number(U64)
    return name, kind, shape, offset


def _placed(path: Path, name: str, kind: int, shape: tuple[int, ...], start: int, offset: int) -> _Tensor:
    if kind not in TYPES:
        raise broken(path, f"{shown(name)} has the unknown type {kind}")
    dtype, elements, size = TYPES[kind]
    # Blocks are along the dimension that is written first, which changes fastest.
    if shape and shape[0] % elements:
        raise broken(path, f"the rows of {shown(name)} ({shape[0]:,} elements) are no whole blocks of {dtype}")
    count = math.prod(shape)
    if count >= 2**50 or offset >= 2**50:
        raise broken(path, f"the size or offset of {shown(name)} cannot be")
    return _Tensor(name, dtype, shape[::-1], start + offset, count // elements * size)


def _check_layout(path: Path, found: _Content, size: int) -> None:
    """The tensors follow each other to the end of the file, with no more between them than their alignment takes."""
    at = found.start
    for tensor in sorted(found.tensors, key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset % found.alignment:
            raise broken(path, f"{shown(tensor.name)} does not lie on a multiple of {found.alignment}")
        if tensor.offset < at:
            raise broken(path, f"the tensor {shown(tensor.name)} overlaps another")
        if tensor.offset - at >= found.alignment:
            raise broken(path, f"the tensor {shown(tensor.name)} leaves a hole before it")
        at = tensor.end
    if size - at >= found.alignment:
        raise broken(path, f"{size - at:,} bytes follow its last tensor")


def _true_shape(path: Path, tensor: _Tensor, values: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of a tensor whose own one was bent to fit the format."""
    kept = values.get(TRUE_SHAPE + tensor.name)
    if kept is None:
        return tensor.shape
    is_shape = isinstance(kept, list) and all(type(side) is int and 0 <= side <= MAX_SIDE for side in kept)
    if not is_shape or math.prod(kept) != math.prod(tensor.shape):
        raise broken(path, f"the original shape of {shown(tensor.name)} does not fit its elements")
    return tuple(kept)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
