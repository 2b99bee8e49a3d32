"""Headers: the keys, shapes and byte ranges of a weight file, read without reading a tensor.

Called by identification, conversion and the commands. The kind of file is decided by its first bytes, never by its
name; each kind has its reader in `formats`. A pickle is interpreted, never run. Never imports torch.
"""

from __future__ import annotations

import os
from pathlib import Path

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.formats.archive import Checksums
from invokeai_daemon.models.formats.base import BITS, Header, TensorInfo
from invokeai_daemon.models.formats.gguf import BLOCKS, read_gguf
from invokeai_daemon.models.formats.opening import opened, sniff
from invokeai_daemon.models.formats.safetensors import read_safetensors
from invokeai_daemon.models.formats.torch_legacy import read_torch_legacy
from invokeai_daemon.models.formats.torch_zip import checksums_of, read_torch_zip

__all__ = [
    "BITS",
    "BLOCKS",
    "Checksums",
    "Header",
    "TensorInfo",
    "check_crcs",
    "crc_watch",
    "opened",
    "read_header",
    "sniff",
]

READERS = {
    "safetensors": read_safetensors,
    "zip": read_torch_zip,
    "pickle": read_torch_legacy,
    "gguf": read_gguf,
}
_WHAT_IT_IS = {
    "empty": "the file is empty. The copy failed or has not begun: copy it again.",
    "lfs": "a git-LFS pointer, not the model itself. Fetch the file with `git lfs pull`, or download it from its page.",
    "html": "a web page, not a model. The download needs a login or another link: open the page and download the file.",
    "zeros": "it begins with zeros only. The copy is not finished or was damaged: copy it again.",
    "tar": "a tar archive: torch files before version 0.1.10 were such archives, and nothing else that is one is a "
    "model. Unpack it and drop what is in it, or save the model again with a newer torch.",
    "unknown": "not a weight file: it is neither safetensors, GGUF nor a torch file (its first bytes say so).",
}


def read_header(path: Path) -> Header:
    """The header of the weight file at `path` (symlinks are followed).

    Raises UnreadableModel for what is broken, cut off or no weight file, UnsafeModel for a pickle that asks for code.
    """
    path = Path(path)
    with opened(path) as (descriptor, size):
        kind = sniff(os.pread(descriptor, 512, 0))
        if kind not in READERS:
            raise UnreadableModel(f"{path}: {_WHAT_IT_IS[kind]}")
        return READERS[kind](path, descriptor, size)


def crc_watch(path: Path, descriptor: int) -> Checksums | None:
    """What to `feed` with the bytes of the open file while they are read for another purpose, from its start.

    None for formats without checksums. Its `feed` and `finish` raise UnreadableModel, with the damaged member's name.
    """
    return checksums_of(path, descriptor) if sniff(os.pread(descriptor, 512, 0)) == "zip" else None


def check_crcs(path: Path) -> None:
    """Read a file to compare its checksums, if it has any. Raises UnreadableModel with the damaged member's name."""
    with opened(path) as (descriptor, _):
        watch = crc_watch(path, descriptor)
        if watch is None:
            return
        buffer, position = bytearray(1 << 20), 0
        while length := os.preadv(descriptor, [buffer], position):
            watch.feed(memoryview(buffer)[:length])
            position += length
        watch.finish()
