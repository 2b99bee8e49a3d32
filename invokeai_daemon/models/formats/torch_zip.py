"""The header of a torch file since version 1.6: a zip archive of one pickle and a member per storage.

Called by `models.header`; `check_members` by whoever reads the whole file anyway. The checksums of the small members
are checked with the header, those of the storages only there.
"""

from __future__ import annotations

import os
from pathlib import Path

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.formats.archive import Archive, Checksums, read_archive
from invokeai_daemon.models.formats.base import Header
from invokeai_daemon.models.formats.pickles import Storage, read_pickle
from invokeai_daemon.models.formats.state_dicts import Place, header_of

MAX_PICKLE = 64 * 1024 * 1024
#: Bytes of the other small members: version, byte order, an identifier.
MAX_SMALL = 1024 * 1024


def read_torch_zip(path: Path, descriptor: int, size: int) -> Header:
    """The header of the open file. Raises UnreadableModel and UnsafeModel."""
    archive = _archive(path, descriptor)
    prefix = _folder(path, archive)
    reading = read_pickle(archive.read(f"{prefix}data.pkl", MAX_PICKLE), str(path))
    for name in archive.members:
        if name != f"{prefix}data.pkl" and not name.startswith(f"{prefix}data/"):
            archive.read(name, MAX_SMALL)

    def find(storage: Storage) -> Place | None:
        member = archive.members.get(f"{prefix}data/{storage.key}")
        return Place(member.offset, member.size) if member else None

    return header_of(path, "torch-zip", size, reading, find)


def checksums_of(path: Path, descriptor: int) -> Checksums:
    """What the archive open on `descriptor` says of its bytes, to be compared while they are read."""
    return Checksums(str(path), _archive(path, descriptor))


def _archive(path: Path, descriptor: int) -> Archive:
    # Local headers are scattered over the whole file: read-ahead would read the tensors.
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    try:
        return read_archive(descriptor, str(path))
    finally:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_NORMAL)


def _folder(path: Path, archive: Archive) -> str:
    """The folder inside the archive, "archive/". Raises UnreadableModel when it is no archive of weights."""
    folders = {name.partition("/")[0] for name in archive.members}
    pickles_inside = [name for name in archive.members if name.lower().endswith((".pkl", ".pickle"))]
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
