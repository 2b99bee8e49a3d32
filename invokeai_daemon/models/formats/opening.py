"""Opening a weight file and telling its format by its first bytes, never by its name.

Called by the readers, `settled` and whoever reads a small file that a stranger wrote.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invokeai_daemon.errors import UnreadableModel

#: The longest header that sets a safetensors file apart from chance; how much of it is read, the reader decides.
_LONGEST_HEADER = 100_000_000


@contextmanager
def opened(path: Path) -> Iterator[tuple[int, int]]:
    """A regular file, open for reading at random places, and its size. Raises UnreadableModel."""
    try:
        # What is no file is not even opened: opening a device can do something. A FIFO that takes the place of the
        # file in this instant would block for ever without O_NONBLOCK.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableModel(f"{path}: not a regular file.")
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
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
    """The kind of file that begins so: safetensors, zip, gguf, pickle, tar, html, lfs, zeros, empty or unknown."""
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
    if start[257:262] == b"ustar":
        return "tar"
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER:
        return "safetensors"
    if start[0] == 0x80 or start[:1] in b"c(":
        return "pickle"
    return "unknown"
