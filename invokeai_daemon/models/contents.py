"""Contents: what tells whether two models are the same bytes. Called by the importer; reads, never writes.

A fingerprint is cheap, and good enough to know a moved file again. The hash covers every byte and takes as long as
reading them. A folder's hash is InvokeAI's: that of the digests of its weight files, sorted by path.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import blake3

from invokeai_daemon.models.convert.copying import content_hash
from invokeai_daemon.models.header import crc_watch, opened

#: Bytes at each end of a file that its fingerprint covers.
END = 256 * 1024
#: Headers of real models have at most a few megabytes.
MAX_HEADER = 16 * 1024 * 1024
#: The files of a folder that InvokeAI hashes.
HASHED = (".ckpt", ".safetensors", ".bin", ".pt", ".pth")


class Stopped(Exception):
    """Somebody wanted a hash no longer."""


def fingerprint(path: Path) -> str:
    """What size, header and both ends of a file hash to; of a folder, the names and sizes of all files and one of each.

    Raises OSError, UnreadableModel for what is no file.
    """
    hasher = blake3.blake3()
    for name, file in [("", path)] if not path.is_dir() else _files(path, lambda name: True):
        with opened(file) as (descriptor, size):
            hasher.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
            head = os.pread(descriptor, END, 0)
            hasher.update(head)
            header = 8 + int.from_bytes(head[:8], "little")
            if END < header <= min(size, MAX_HEADER):
                hasher.update(os.pread(descriptor, header - END, END))
            hasher.update(os.pread(descriptor, END, max(0, size - END)))
    return hasher.hexdigest(16)


def full_hash(path: Path, stop: threading.Event | None = None) -> str:
    """The hash of all bytes of a file, or of the weights of a folder, "blake3:…".

    Raises Stopped when told to stop, UnreadableModel for a file whose checksums say that it is damaged.
    """
    if not path.is_dir():
        return f"blake3:{_digest(path, stop)}"
    weights = _files(path, lambda name: name.lower().endswith(HASHED))
    joined = "".join(_digest(file, stop) for _, file in weights)
    return f"blake3:{blake3.blake3(joined.encode()).hexdigest()}"


def _digest(path: Path, stop: threading.Event | None) -> str:
    with opened(path) as (descriptor, _):
        try:
            return content_hash(descriptor, stop, crc_watch(path, descriptor)).removeprefix("blake3:")
        except InterruptedError as error:
            raise Stopped from error


def _files(folder: Path, wanted: Callable[[str], bool]) -> list[tuple[str, Path]]:
    """The files below a folder with their names from there on, sorted; no hidden ones."""
    found = (
        (path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if not path.name.startswith(".") and wanted(path.name) and path.is_file()
    )
    return sorted(found)
