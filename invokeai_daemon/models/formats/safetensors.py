"""The header of a safetensors file: JSON of names, shapes and byte ranges, after its length.

Called by `models.header`. Stricter than the format's own reader: a name occurs once, and the tensors fill the file to
its last byte without hole or overlap. What would make the JSON grow in memory is refused before it is parsed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.formats.base import (
    BITS,
    MAX_DIMENSIONS,
    MAX_SIDE,
    MAX_TENSORS,
    Header,
    TensorInfo,
    first_unfit,
    shown,
    unfit_name,
)

#: Bytes; headers of real models have at most a few megabytes.
MAX_HEADER = 16 * 1024 * 1024
#: How often these may occur in a header. Each costs some hundred bytes once it is parsed; training notes have many.
_MOST = {b"{": 10 * MAX_TENSORS, b"[": 10 * MAX_TENSORS, b",": 50 * MAX_TENSORS}


def read_safetensors(path: Path, descriptor: int, size: int) -> Header:
    """The header of the open file. Raises UnreadableModel."""
    length = _header_length(path, descriptor, size)
    content = _parse_json(path, os.pread(descriptor, length, 8))
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _broken(path, "its metadata are not texts")
    if len(content) > MAX_TENSORS:
        raise _broken(path, f"it has {len(content):,} tensors; at most {MAX_TENSORS:,} are read")
    if name := first_unfit(content):
        raise _broken(path, f"the name {shown(name)} {unfit_name(name)}")
    tensors = {name: _tensor(path, name, entry, 8 + length) for name, entry in content.items()}
    _check_layout(path, tensors, 8 + length, size)
    return Header(path, "safetensors", size, tensors, metadata)


def _header_length(path: Path, descriptor: int, size: int) -> int:
    """Bytes of the header. Raises UnreadableModel when it is too long or cut off."""
    length = int.from_bytes(os.pread(descriptor, 8, 0), "little")
    if 8 + length > size:
        raise UnreadableModel(
            f"{path}: cut off: the header alone needs {8 + length:,} bytes and the file has {size:,}. Copy it again."
        )
    if length > MAX_HEADER:
        raise _broken(path, f"its header has {length:,} bytes; at most {MAX_HEADER:,} are read")
    return length


def _parse_json(path: Path, raw: bytes) -> dict[str, Any]:
    """The header's content. Only UTF-8 is JSON to the format's own reader, so no other encoding is tried here."""
    for sign, most in _MOST.items():
        if (count := raw.count(sign)) > most:
            raise _broken(path, f"its header has {count:,} times {sign.decode()!r}, more than any model needs")
    try:
        text = raw.decode("utf-8")
        content = json.loads(text, parse_constant=_no_constant)
        if not _has_every_key(raw, content):
            content = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is not proper JSON ({str(error)[:200]})") from error
    if not isinstance(content, dict):
        raise _broken(path, "its header is not a JSON object")
    return content


def _has_every_key(raw: bytes, content: Any) -> bool:
    """Whether no key was lost because it stood there twice: as many colons as the keys and texts account for.

    False also where that cannot be told; then a parser that looks at each pair must, which takes twice the time.
    """
    if not isinstance(content, dict) or b"\\u003" in raw:
        return False
    metadata = content.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        return False
    entries = len(content) - ("__metadata__" in content)
    texts = (*content, *metadata, *metadata.values())
    colons = len(content) + 3 * entries + len(metadata) + "".join(texts).count(":")
    return raw.count(b":") == colons


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the name {shown(twice)} occurs twice")
    return content


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _tensor(path: Path, name: str, entry: Any, data_start: int) -> TensorInfo:
    try:
        dtype, shape = entry["dtype"], entry["shape"]
        begin, end = entry["data_offsets"]
        bits = BITS[dtype]
    except (TypeError, KeyError, ValueError):
        raise _broken(path, f"the entry of {shown(name)} is not as the format wants it") from None
    if type(begin) is not int or type(end) is not int or type(shape) is not list or not 0 <= begin <= end < 2**62:
        raise _broken(path, f"the entry of {shown(name)} has numbers that cannot be")
    count = 1
    for side in shape:
        if type(side) is not int or side < 0:
            raise _broken(path, f"the entry of {shown(name)} has numbers that cannot be")
        if side > MAX_SIDE or len(shape) > MAX_DIMENSIONS:
            raise _broken(path, f"the shape of {shown(name)} cannot be")
        count *= side
    if count * bits != (end - begin) * 8:
        raise _broken(path, f"{shown(name)} has shape {shape} of {dtype} but {end - begin:,} bytes")
    return TensorInfo(dtype, tuple(shape), data_start + begin, end - begin)


def _check_layout(path: Path, tensors: Mapping[str, TensorInfo], start: int, size: int) -> None:
    """The tensors fill the file from the header to its end, in one row without hole or overlap."""
    # Mostly they stand in this order; then they need not be sorted.
    at = _end_of_row(tensors.values(), start)
    if at is None:
        at = start
        for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].file_offset, item[1].nbytes)):
            if tensor.file_offset != at:
                what = "overlaps another" if tensor.file_offset < at else "leaves a hole before it"
                raise _broken(path, f"the tensor {shown(name)} {what}")
            at += tensor.nbytes
    if at > size:
        raise UnreadableModel(
            f"{path}: cut off: {at - size:,} of its {at:,} bytes are missing. It is still being copied or the copy "
            "failed: copy it again."
        )
    if at < size:
        raise _broken(path, f"{size - at:,} bytes follow its last tensor")


def _end_of_row(tensors: Iterable[TensorInfo], at: int) -> int | None:
    """Where the last one ends; None when one does not begin where the one before it ends."""
    for _, _, offset, nbytes, _ in tensors:
        if offset != at:
            return None
        at += nbytes
    return at


def _broken(path: Path, why: str) -> UnreadableModel:
    return UnreadableModel(f"{path}: a broken safetensors file: {why}. Get the model again.")
