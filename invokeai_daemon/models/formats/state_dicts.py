"""From the value of a pickle to a header: which of its tensors are the weights, and where their bytes lie.

Called by the two readers of torch's formats, which know where a storage lies. A tensor may not be larger than its
storage, and all together not much larger than the file: nothing here unfolds when it is copied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import UnreadableModel, UnsafeModel
from invokeai_daemon.models.formats.base import (
    BITS,
    MAX_DIMENSIONS,
    MAX_SIDE,
    MAX_TENSORS,
    Header,
    TensorInfo,
    shown,
    unfit_name,
)
from invokeai_daemon.models.formats.pickles import Opaque, Reading, Storage, Tensor

#: Values looked at in dictionaries of dictionaries; the same inner one can stand under many names.
MAX_VALUES = 1_000_000
#: Tensors that share bytes (tied weights) may make the whole this much larger than the file.
MOST_SHARING, SMALL = 4, 16 * 1024 * 1024
#: Characters of a text beside the tensors that are kept.
MAX_TEXT = 4096


@dataclass(frozen=True)
class Place:
    """Where a storage lies in its file."""

    offset: int
    #: Bytes.
    size: int


#: Finds a storage; None when it is not in the file.
Find = Callable[[Storage], Place | None]


def header_of(path: Path, form: str, size: int, reading: Reading, find: Find) -> Header:
    """The header that a pickle describes. Raises UnreadableModel, and UnsafeModel where a leftover is in the way."""
    outer = _dictionary(path, reading.value)
    if outer is None:
        raise UnreadableModel(f"{path}: its pickle is a {_kind_of(reading.value)}, not a dictionary of tensors.")
    weights = _dictionary(path, outer.get("state_dict"))
    if weights is not None:
        _refuse_made_by_leftovers(path, weights)
    found = _flat(path, outer if weights is None else weights)
    if not found and reading.leftovers:
        raise _unsafe(path, reading.leftovers[0], "the file has no tensor that could be had without it")
    tensors = {name: _tensor(path, name, tensor, find) for name, tensor in found.items()}
    whole = sum(info.nbytes for info in tensors.values())
    if whole > MOST_SHARING * size + SMALL:
        raise UnreadableModel(
            f"{path}: its tensors share bytes and would unfold to {whole:,} bytes from a file of {size:,}."
        )
    return Header(path, form, size, tensors, {}, _scalars(outer), reading.globals, reading.leftovers)


def storage_bytes(storage: Storage) -> int:
    """Bytes that a storage says it has."""
    return storage.count * (BITS[storage.dtype] // 8 if storage.dtype else 1)


def _dictionary(path: Path, value: Any) -> dict[Any, Any] | None:
    """A dictionary, also where the pickle asked for a class that holds one. Raises UnsafeModel for other classes."""
    if isinstance(value, Opaque) and value.is_leftover:
        why = "it is a whole program object, not only weights: ask for a file with its state_dict, or safetensors"
        raise _unsafe(path, value.name, why)
    return _contents(value)


def _contents(value: Any) -> dict[Any, Any] | None:
    """What a dictionary, or a plain class that is one, holds; None for everything else."""
    if isinstance(value, Opaque) and not value.is_leftover:
        state = value.state if isinstance(value.state, dict) else {}
        parameters = state.get("_parameters")
        value = parameters if isinstance(parameters, dict) else value.items
    return value if isinstance(value, dict) else None


def _refuse_made_by_leftovers(path: Path, weights: dict[Any, Any]) -> None:
    """In a dictionary that is weights and nothing else, a value of another program's class hides a tensor."""
    for name, value in weights.items():
        if isinstance(value, Opaque) and value.is_leftover:
            raise _unsafe(path, value.name, f"{shown(str(name))} of its state_dict cannot be had without it")


def _flat(path: Path, outer: dict[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a dictionary and, under "name.inner", those of the dictionaries in it."""
    found: dict[str, Tensor] = {}
    for name, tensor in _walk(path, outer):
        if name in found:
            raise UnreadableModel(f"{path}: two of its tensors are called {shown(name)}. Get the model again.")
        found[name] = tensor
        if len(found) > MAX_TENSORS:
            raise UnreadableModel(f"{path}: it has more than {MAX_TENSORS:,} tensors; no model has.")
    return found


def _walk(path: Path, outer: dict[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    looked_at = len(outer)
    for name, value in outer.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, Tensor):
            yield name, value
        inner = _contents(value) or {}
        looked_at += len(inner)
        if looked_at > MAX_VALUES:
            raise UnreadableModel(f"{path}: its pickle has more than {MAX_VALUES:,} values; no model has.")
        for key, tensor in inner.items():
            if isinstance(key, str) and isinstance(tensor, Tensor):
                yield f"{name}.{key}", tensor


def _scalars(outer: dict[Any, Any]) -> dict[str, int | float | str]:
    return {
        name: value[:MAX_TEXT] if isinstance(value, str) else value
        for name, value in outer.items()
        if isinstance(name, str) and isinstance(value, (int, float, str)) and len(name) < 200
    }


def _tensor(path: Path, name: str, tensor: Tensor, find: Find) -> TensorInfo:
    if wrong := unfit_name(name):
        raise UnreadableModel(f"{path}: the name {shown(name)} of a tensor {wrong}. Get the model again.")
    if len(tensor.shape) > MAX_DIMENSIONS or max(tensor.shape, default=0) > MAX_SIDE:
        raise UnreadableModel(f"{path}: the shape of {shown(name)} cannot be. Get the model again.")
    place = find(tensor.storage)
    if place is None:
        raise UnreadableModel(f"{path}: the bytes of {shown(name)} are not in the file. Get the model again.")
    told = storage_bytes(tensor.storage)
    if told != place.size:
        raise UnreadableModel(
            f"{path}: the storage of {shown(name)} should have {told:,} bytes and has {place.size:,}. "
            "Get the model again."
        )
    width = BITS[tensor.dtype or "U8"] // 8
    count = math.prod(tensor.shape)
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)) + 1
    if count and (tensor.offset + reach) * width > place.size:
        raise UnreadableModel(f"{path}: {shown(name)} reaches beyond its storage. Get the model again.")
    if count * width > place.size:
        raise UnreadableModel(
            f"{path}: {shown(name)} has {count:,} elements in a storage of {place.size:,} bytes: its strides "
            f"{tensor.strides} would unfold it. Get the model again."
        )
    if not _in_order(tensor.shape, tensor.strides):
        reason = f"its elements do not lie in order (shape {tensor.shape}, strides {tensor.strides})"
        return TensorInfo(tensor.dtype or "U8", tensor.shape, -1, count * width, reason)
    offset = tensor.offset * width if count else 0
    return TensorInfo(tensor.dtype or "U8", tensor.shape, place.offset + offset, count * width)


def _in_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether the elements of a tensor lie in its storage as those of a C array do."""
    if 0 in shape:
        return True
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _kind_of(value: Any) -> str:
    return value.name if isinstance(value, Opaque) else type(value).__name__


def _unsafe(path: Path, name: str, why: str) -> UnsafeModel:
    name = shown(name)[1:-1]
    return UnsafeModel(f"{path}: the pickle asks for {name}; {why}. Nothing of it was run.", name)
