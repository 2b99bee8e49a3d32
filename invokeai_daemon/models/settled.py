"""Settled: whether a model that arrived is all there, proven by its format instead of by waiting.

Called by the daemon at every look at a new file, so it is cheap: the header or the end of a file, never its tensors.
It only proves; waiting for what cannot be proven, and ignoring the names of partial downloads, is the daemon's.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from pathlib import Path
from typing import Any, Literal, NamedTuple

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.companions import is_file
from invokeai_daemon.models.configs import read_config
from invokeai_daemon.models.formats.archive import ends_like_a_zip, read_directory
from invokeai_daemon.models.formats.gguf import length_of_gguf
from invokeai_daemon.models.formats.opening import opened, sniff

State = Literal["complete", "incomplete", "unknown"]


class Proof(NamedTuple):
    """What the bytes say.

    "complete": read it at once. "incomplete": something is missing; a file that stays so is cut off for good, and
    reading it gives the user that verdict. "unknown": its format proves nothing, only time can.
    """

    state: State
    reason: str


def proof(path: Path) -> Proof:
    """Whether a model file or diffusers folder is all there. Never raises for what is in it."""
    try:
        if path.is_dir():
            return _folder(path)
        with opened(path) as (descriptor, size):
            found = _file(path, descriptor, size)
            return _unless_being_written(found, descriptor, size)
    except UnreadableModel as error:
        return Proof("unknown", str(error))
    except OSError as error:
        # A folder's files come and go while it is looked at, and a stranger's names need not be possible ones.
        return Proof("unknown", f"{path}: {error.strerror or error}")


def _file(path: Path, descriptor: int, size: int) -> Proof:
    kind = sniff(os.pread(descriptor, 512, 0))
    if kind == "empty":
        return Proof("incomplete", "it is still empty")
    if kind == "zeros":
        return Proof("incomplete", "its first bytes are zeros: its room is reserved, its content has not come")
    if kind == "safetensors":
        return _safetensors(descriptor, size)
    if kind == "zip":
        return _zip(path, descriptor, size)
    if kind == "gguf":
        return _gguf(path, descriptor, size)
    return Proof("unknown", "its format does not tell its length")


#: Where a tensor ends, in a safetensors header. The daemon does not parse what a stranger wrote: the importer will.
_END_OF_TENSOR = re.compile(rb'"data_offsets"\s*:\s*\[\s*\d{1,19}\s*,\s*(\d{1,19})\s*\]')
#: Bytes of a header, or of an archive's directory, that are looked at here: the daemon has little memory, and does
#: nothing else meanwhile. Real ones have at most a few megabytes; of a longer one, only time tells that it is complete.
_MAX_HEADER, _MAX_DIRECTORY = 16 * 1024 * 1024, 8 * 1024 * 1024
#: Bytes that may follow the last tensor of a GGUF file, to fill its last block.
_MAX_PADDING = 1024 * 1024


def _safetensors(descriptor: int, size: int) -> Proof:
    length = int.from_bytes(os.pread(descriptor, 8, 0), "little")
    if 8 + length > size:
        return Proof("incomplete", f"{8 + length - size:,} bytes of its header have not come")
    if length > _MAX_HEADER:
        return Proof("unknown", f"its header has {length:,} bytes")
    ends = _END_OF_TENSOR.finditer(os.pread(descriptor, length, 8))
    end = 8 + length + max((int(found[1]) for found in ends), default=0)
    if end > size:
        return Proof("incomplete", f"{end - size:,} of its {end:,} bytes have not come")
    if end < size:
        return Proof("unknown", f"{size - end:,} bytes follow its last tensor")
    return Proof("complete", f"its header and tensors fill its {size:,} bytes")


def _zip(path: Path, descriptor: int, size: int) -> Proof:
    if not ends_like_a_zip(descriptor, size):
        return Proof("incomplete", "the end of the archive has not come")
    count = 0
    for member in read_directory(descriptor, str(path), _MAX_DIRECTORY):
        if member.local + member.size > size:
            return Proof("unknown", "the archive names members beyond its end")
        count += 1
    return Proof("complete", f"its end names {count:,} members, all within its {size:,} bytes")


def _gguf(path: Path, descriptor: int, size: int) -> Proof:
    """Its header says where each tensor ends, and the reader of it costs no more than the header is long."""
    end = length_of_gguf(path, descriptor, size, _MAX_HEADER)
    if end > size:
        return Proof("incomplete", f"at least {end - size:,} bytes have not come")
    if size - end >= _MAX_PADDING:
        return Proof("unknown", f"{size - end:,} bytes follow its last tensor")
    return Proof("complete", f"its header and tensors fill its {size:,} bytes")


def _unless_being_written(found: Proof, descriptor: int, size: int) -> Proof:
    """A copy that reserves the full size first looks complete; an open writer or a hole in the file gives it away."""
    if found.state != "complete":
        return found
    if _has_writer(descriptor):
        return Proof("unknown", "some program has it open for writing")
    if _has_hole(descriptor, size):
        return Proof("unknown", "it has holes, perhaps because its room was reserved before its content came")
    return found


def _has_writer(descriptor: int) -> bool:
    """Whether any process has the file open for writing, as far as the system tells us (Linux, our own files)."""
    try:
        import fcntl

        # A writer who comes while the lease is held makes the kernel signal us; the usual signal would end the process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except (ImportError, AttributeError):
        return False
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False


def _has_hole(descriptor: int, size: int) -> bool:
    try:
        return os.lseek(descriptor, 0, os.SEEK_HOLE) < size
    except (OSError, AttributeError):
        return False


# Folders

#: The parts of a pipeline that rendering needs; others (a safety checker) are often named and left out.
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_WITH_WEIGHTS = ("unet", "vae", "text_encoder")


#: Each is looked for, at every look at the folder.
_MAX_SHARDS = 2000


def _folder(folder: Path) -> Proof:
    index = folder / "model_index.json"
    if not index.is_file():
        return Proof("unknown", "it has no model_index.json")
    try:
        named = read_config(index)
    except UnreadableModel:
        return Proof("incomplete", "its model_index.json cannot be read yet")
    for part in _PARTS:
        if _is_named(named.get(part)):
            found = _part(folder / part)
            if found.state != "complete":
                return Proof(found.state, f"{part}: {found.reason}")
    return Proof("complete", "every part that model_index.json names is there")


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and any(value)


def _part(folder: Path) -> Proof:
    files = sorted(path for path in folder.glob("*") if path.is_file())
    if not files:
        return Proof("incomplete", "it has not come")
    if folder.name not in _WITH_WEIGHTS:
        return Proof("complete", "it is there")
    if not (folder / "config.json").is_file():
        return Proof("incomplete", "its config.json has not come")
    weights = [path for path in files if path.suffix in (".safetensors", ".bin")]
    missing = _missing_shards(folder, files)
    if missing:
        return Proof("incomplete", f"{missing[0]} has not come")
    if not weights:
        return Proof("incomplete", "its weights have not come")
    return next((found for found in map(proof, weights) if found.state != "complete"), Proof("complete", "all there"))


def _missing_shards(folder: Path, files: list[Path]) -> list[str]:
    """The files that an index of shards names and that are not there."""
    names: set[str] = set()
    for path in files:
        if path.name.endswith(".index.json"):
            shards = read_config(path).get("weight_map")
            names |= {str(name) for name in shards.values()} if isinstance(shards, dict) else set()
            if len(names) > _MAX_SHARDS:
                raise UnreadableModel(f"{path}: it names more than {_MAX_SHARDS:,} shards; no model has as many.")
    return sorted(name for name in names if not is_file(folder / name))
