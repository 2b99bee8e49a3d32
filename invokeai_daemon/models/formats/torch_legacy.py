"""The header of a torch file before version 1.6: five pickles in a row, then the storages.

Called by `models.header`. The pickles are a magic number, the version of the format, facts of the machine, the value,
and the keys of the storages; then comes each storage in that order, its length in elements (eight bytes) before it.
The much older files that are tar archives are refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.formats.base import Header, shown
from invokeai_daemon.models.formats.pickles import CutOffPickle, Reading, Storage, read_pickle
from invokeai_daemon.models.formats.state_dicts import Place, header_of, storage_bytes

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
#: How much of the file is read for its pickles: mostly the first is enough.
_WINDOWS = (1 << 20, 8 << 20, 64 << 20)
MAX_STORAGES = 100_000


def read_torch_legacy(path: Path, descriptor: int, size: int) -> Header:
    """The header of the open file that begins with a pickle. Raises UnreadableModel and UnsafeModel."""
    pickles = _Pickles(path, descriptor, size)
    first = pickles.next()
    if first.value != MAGIC:
        raise UnreadableModel(f"{path}: a bare pickle without tensors, not a weight file.")
    version, machine = pickles.next().value, pickles.next().value
    if type(version) is not int or version != VERSION:
        # Only a short number is shown: writing out whatever else stands there can take for ever.
        is_short = type(version) is int and abs(version) < 2**63
        told = shown(str(version)) if is_short else f"({type(version).__name__})"
        raise UnreadableModel(f"{path}: a torch file of the unknown version {told}.")
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise UnreadableModel(f"{path}: written on a big-endian machine; save it again on a little-endian one.")
    reading = pickles.next()
    keys = pickles.next().value
    if not _are_keys(keys):
        raise UnreadableModel(f"{path}: the list of its storages is not as torch writes it. Get the model again.")
    places = _places(path, descriptor, size, pickles.at, [str(key) for key in keys], reading.storages)
    return header_of(path, "torch-legacy", size, reading, lambda storage: places.get(storage.key))


def _are_keys(keys: object) -> bool:
    """Whether these name storages: texts or short numbers, each once. Anything else is not even looked at."""
    if not isinstance(keys, list) or len(keys) > MAX_STORAGES:
        return False
    are_short = all(type(key) is str or (type(key) is int and abs(key) < 2**63) for key in keys)
    return are_short and len(set(map(str, keys))) == len(keys)


class _Pickles:
    """The pickles at the start of a file, one after the other."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path, self.descriptor, self.size = path, descriptor, size
        self.at = 0
        self.raw = b""

    def next(self) -> Reading:
        """The next pickle. Reads more of the file only when it is cut off by what was read."""
        for window in _WINDOWS:
            raw = os.pread(self.descriptor, window, self.at)
            try:
                reading = read_pickle(raw, str(self.path), whole=False)
            except CutOffPickle:
                if self.at + len(raw) >= self.size:
                    raise
            else:
                self.at += reading.end
                return reading
        raise UnreadableModel(f"{self.path}: its pickle has more than {_WINDOWS[-1]:,} bytes.")


def _places(
    path: Path, descriptor: int, size: int, at: int, keys: list[str], storages: Mapping[str, Storage]
) -> dict[str, Place]:
    """Where each storage lies; they fill the file to its end."""
    places: dict[str, Place] = {}
    for key in keys:
        storage = storages.get(key)
        if storage is None:
            raise UnreadableModel(f"{path}: the storage {shown(key)} belongs to no tensor. Get the model again.")
        count = int.from_bytes(os.pread(descriptor, 8, at), "little", signed=True)
        if count != storage.count and at + 8 <= size:
            raise UnreadableModel(
                f"{path}: the storage {shown(key)} should have {storage.count:,} elements and has {count:,}. "
                "Get the model again."
            )
        places[key] = Place(at + 8, storage_bytes(storage))
        at += 8 + places[key].size
        if at > size:
            raise UnreadableModel(
                f"{path}: cut off: at least {at - size:,} bytes are missing. It is still being copied or the copy "
                "failed: copy it again."
            )
    if at < size:
        raise UnreadableModel(f"{path}: {size - at:,} bytes follow its last storage. Get the model again.")
    return places
