"""Headers: the keys, shapes and byte ranges of a weight file, read without reading a tensor.

Called by identification, conversion and the commands. The kind of file is decided by its first bytes, never by its
name. A pickle is interpreted, never run. Never imports torch.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models import pickles
from invokeai_daemon.models.archive import Archive, read_archive

MAX_SAFETENSORS_HEADER = 100_000_000
MAX_TENSORS = 200_000
MAX_PICKLE = 64 * 1024 * 1024

#: Bits of one element, by safetensors name.
BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies in its file and what it is."""

    #: Safetensors name: F16, BF16, F32, I64, …
    dtype: str
    shape: tuple[int, ...]
    #: Absolute offset of its first byte in the file; -1 when its elements do not lie in order, see `reason`.
    file_offset: int
    #: Bytes of its elements.
    nbytes: int
    #: Why there is no file offset.
    reason: str = ""

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a weight file holds."""

    path: Path
    #: "safetensors" or "torch-zip"
    format: str
    #: Bytes of the file.
    size: int
    #: In the order of the file; of a pickle those of its `state_dict` if it has one, else of its outermost dictionary.
    tensors: Mapping[str, TensorInfo]
    #: The texts of a safetensors header.
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: Plain values beside the tensors of a pickle: global_step, epoch, …
    scalars: Mapping[str, int | float | str] = field(default_factory=dict)
    #: The globals that the pickle names; all of them are on the list of `pickles`.
    globals: tuple[str, ...] = ()


def read_header(path: Path) -> Header:
    """The header of the weight file at `path` (symlinks are followed).

    Raises UnreadableModel for what is broken, cut off or no weight file, UnsafeModel for a pickle that asks for code.
    """
    path = Path(path)
    with opened(path) as (descriptor, size):
        start = os.pread(descriptor, 512, 0)
        kind = sniff(start)
        if kind == "safetensors":
            return _safetensors_header(path, descriptor, size)
        if kind == "zip":
            return _torch_header(path, descriptor, size)
        raise _no_weights(path, kind, size, os.pread(descriptor, 1 << 20, 0))


@contextmanager
def opened(path: Path) -> Iterator[tuple[int, int]]:
    """A regular file, open for reading at random places, and its size. Raises UnreadableModel."""
    try:
        # A FIFO would block for ever without O_NONBLOCK.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UnreadableModel(f"{path}: cannot be opened: {reason}.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableModel(f"{path}: not a regular file.")
        yield descriptor, status.st_size
    except OSError as error:
        raise UnreadableModel(f"{path}: cannot be read: {error.strerror}.") from error
    finally:
        os.close(descriptor)


def sniff(start: bytes) -> str:
    """The kind of file that begins so: safetensors, zip, pickle, gguf, html, lfs, zeros, empty or unknown."""
    if not start:
        return "empty"
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    text = start.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "lfs"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "html"
    if start[:4] == b"GGUF":
        return "gguf"
    if not any(start):
        return "zeros"
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_SAFETENSORS_HEADER:
        return "safetensors"
    if start[0] == 0x80 or start[:1] in b"c(":
        return "pickle"
    return "unknown"


_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

_WHAT_IT_IS = {
    "empty": "the file is empty. The copy failed or has not begun: copy it again.",
    "lfs": "a git-LFS pointer, not the model itself. Fetch the file with `git lfs pull`, or download it from its page.",
    "html": "a web page, not a model. The download needs a login or another link: open the page and download the file.",
    "gguf": "a GGUF file; this format is not supported yet. Use the safetensors version of the model.",
    "zeros": "it begins with zeros only. The copy is not finished or was damaged: copy it again.",
    "unknown": "not a weight file: it is neither safetensors nor a torch archive (its first bytes say so).",
}


def _no_weights(path: Path, kind: str, size: int, start: bytes) -> Exception:
    if kind != "pickle":
        return UnreadableModel(f"{path}: {_WHAT_IT_IS[kind]}")
    try:
        first, _names, end = pickles.read_pickle(start, str(path), whole=False)
        if first == _LEGACY_MAGIC:
            _look_through_legacy(start, end, str(path))
            return UnreadableModel(
                f"{path}: a torch file of the format before 1.6 ({size:,} bytes); it is not supported. "
                "If you trust it, save it again: torch.save(torch.load(old, weights_only=True), new), "
                "or convert it to safetensors."
            )
    except UnreadableModel:
        return UnreadableModel(f"{path}: {_WHAT_IT_IS['unknown']}")
    return UnreadableModel(f"{path}: a bare pickle without tensors, not a weight file.")


def _look_through_legacy(start: bytes, at: int, where: str) -> None:
    """Raise UnsafeModel when one of the next pickles of an old torch file asks for code."""
    for _ in range(3):
        _, _, length = pickles.read_pickle(start[at:], where, whole=False)
        at += length


# safetensors


def _safetensors_header(path: Path, descriptor: int, size: int) -> Header:
    length = _safetensors_header_length(path, descriptor, size)
    raw = os.pread(descriptor, length, 8)
    content = _parse_json(path, raw)
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _broken(path, "its metadata are not texts")
    if len(content) > MAX_TENSORS:
        raise _broken(path, f"it has {len(content):,} tensors; at most {MAX_TENSORS:,} are read")
    tensors = {name: _safetensors_tensor(path, name, entry, 8 + length) for name, entry in content.items()}
    _check_layout(path, tensors, 8 + length, size)
    return Header(path, "safetensors", size, tensors, metadata)


def _safetensors_header_length(path: Path, descriptor: int, size: int) -> int:
    """Bytes of the header. Raises UnreadableModel when it is too long or cut off."""
    length = int.from_bytes(os.pread(descriptor, 8, 0), "little")
    if length > MAX_SAFETENSORS_HEADER:
        raise _broken(path, f"its header would have {length:,} bytes")
    if 8 + length > size:
        raise UnreadableModel(
            f"{path}: cut off: the header alone needs {8 + length:,} bytes and the file has {size:,}. Copy it again."
        )
    return length


def _parse_json(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        content = json.loads(raw, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is not proper JSON ({str(error)[:200]})") from error
    if not isinstance(content, dict):
        raise _broken(path, "its header is not a JSON object")
    return content


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!a} occurs twice")
    return content


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _safetensors_tensor(path: Path, name: str, entry: Any, data_start: int) -> TensorInfo:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        bits = BITS[dtype]
        numbers = [*shape, begin, end]
    except (TypeError, KeyError, ValueError):
        raise _broken(path, f"the entry of {ascii(name)[:200]} is not as the format wants it") from None
    if not isinstance(shape, list) or not all(type(number) is int and 0 <= number < 2**62 for number in numbers):
        raise _broken(path, f"the entry of {ascii(name)[:200]} has numbers that cannot be")
    if not name.isprintable():
        raise _broken(path, f"the name {ascii(name)[:200]} has control characters")
    if math.prod(shape) * bits != (end - begin) * 8:
        raise _broken(path, f"{ascii(name)[:200]} has shape {shape} of {dtype} but {end - begin:,} bytes")
    return TensorInfo(dtype, tuple(shape), data_start + begin, end - begin)


def _check_layout(path: Path, tensors: Mapping[str, TensorInfo], start: int, size: int) -> None:
    """The tensors fill the file from the header to its end, in one row without hole or overlap."""
    at = start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].file_offset, item[1].nbytes)):
        if tensor.file_offset != at:
            what = "overlaps another" if tensor.file_offset < at else "leaves a hole before it"
            raise _broken(path, f"the tensor {ascii(name)[:200]} {what}")
        at += tensor.nbytes
    if at > size:
        raise UnreadableModel(
            f"{path}: cut off: {at - size:,} of its {at:,} bytes are missing. It is still being copied or the copy "
            "failed: copy it again."
        )
    if at < size:
        raise _broken(path, f"{size - at:,} bytes follow its last tensor")


def _broken(path: Path, why: str) -> UnreadableModel:
    return UnreadableModel(f"{path}: a broken safetensors file: {why}. Get the model again.")


# torch archives


def _torch_header(path: Path, descriptor: int, size: int) -> Header:
    # Local headers are scattered over the whole file: read-ahead would read the tensors.
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    archive = read_archive(descriptor, str(path))
    prefix = _pickle_prefix(path, archive)
    raw = archive.read(f"{prefix}data.pkl", MAX_PICKLE)
    value, names, _ = pickles.read_pickle(raw, str(path))
    outer = _as_dictionary(value)
    if outer is None:
        raise UnreadableModel(f"{path}: its pickle is a {_kind_of(value)}, not a dictionary of tensors.")
    inner = _as_dictionary(outer.get("state_dict"))
    found = dict(_flat(inner if inner is not None else outer))
    if len(found) > MAX_TENSORS:
        raise UnreadableModel(f"{path}: it has {len(found):,} tensors; at most {MAX_TENSORS:,} are read.")
    tensors = {name: _torch_tensor(path, name, tensor, archive, prefix) for name, tensor in found.items()}
    return Header(path, "torch-zip", size, tensors, {}, _scalars(outer), names)


def _pickle_prefix(path: Path, archive: Archive) -> str:
    """The folder inside the archive, "archive/". Raises UnreadableModel when it is no archive of weights."""
    folders = {name.partition("/")[0] for name in archive.members}
    pickles_inside = [name for name in archive.members if name.endswith(".pkl")]
    if any(name.endswith(("/constants.pkl", ".py")) or "/code/" in name for name in archive.members):
        raise UnreadableModel(f"{path}: a TorchScript program, not a weight file.")
    if not pickles_inside:
        raise UnreadableModel(f"{path}: a zip archive without tensors, not a model. Unpack it and drop what is in it.")
    folder = folders.pop() if len(folders) == 1 else ""
    if pickles_inside != [f"{folder}/data.pkl"]:
        raise UnreadableModel(f"{path}: an archive that torch would not have written: its members are out of place.")
    order = f"{folder}/byteorder"
    if order in archive.members and archive.read(order, 16) != b"little":
        raise UnreadableModel(f"{path}: written on a big-endian machine; save it again on a little-endian one.")
    return f"{folder}/"


def _as_dictionary(value: Any) -> dict[Any, Any] | None:
    """A dictionary, also where the pickle asked for a class that holds one."""
    if isinstance(value, pickles.Opaque):
        state = value.state if isinstance(value.state, dict) else {}
        parameters = state.get("_parameters")
        value = parameters if isinstance(parameters, dict) else value.items
    return value if isinstance(value, dict) else None


def _flat(outer: dict[Any, Any]) -> Iterator[tuple[str, pickles.Tensor]]:
    """The tensors of a dictionary and, under "name.inner", those of the dictionaries in it."""
    for name, value in outer.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, pickles.Tensor):
            yield name, value
        for inner, tensor in (_as_dictionary(value) or {}).items():
            if isinstance(inner, str) and isinstance(tensor, pickles.Tensor):
                yield f"{name}.{inner}", tensor


def _scalars(outer: dict[Any, Any]) -> dict[str, int | float | str]:
    return {
        name: value
        for name, value in outer.items()
        if isinstance(name, str) and isinstance(value, (int, float, str)) and len(name) < 200
    }


def _torch_tensor(path: Path, name: str, tensor: pickles.Tensor, archive: Archive, prefix: str) -> TensorInfo:
    shown = ascii(name)[:200]
    member = archive.members.get(f"{prefix}data/{tensor.storage.key}")
    if member is None:
        raise UnreadableModel(f"{path}: the bytes of {shown} are not in the archive. Get the model again.")
    width = BITS[tensor.dtype or "U8"] // 8
    stored = BITS[tensor.storage.dtype] // 8 if tensor.storage.dtype else 1
    if tensor.storage.count * stored != member.size:
        raise UnreadableModel(
            f"{path}: the storage of {shown} should have {tensor.storage.count * stored:,} bytes and has "
            f"{member.size:,}. Get the model again."
        )
    count = math.prod(tensor.shape)
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)) + 1
    if count and (tensor.offset + reach) * width > member.size:
        raise UnreadableModel(f"{path}: {shown} reaches beyond its storage. Get the model again.")
    if not _in_order(tensor.shape, tensor.strides):
        reason = f"its elements do not lie in order (shape {tensor.shape}, strides {tensor.strides})"
        return TensorInfo(tensor.dtype, tensor.shape, -1, count * width, reason)
    offset = tensor.offset * width if count else 0
    return TensorInfo(tensor.dtype, tensor.shape, member.offset + offset, count * width)


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
    return value.name if isinstance(value, pickles.Opaque) else type(value).__name__
