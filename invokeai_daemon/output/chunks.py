"""The text chunks of a PNG file, read without decoding a pixel: the daemon looks into drops that anybody made.

The file is walked chunk by chunk; pictures are skipped, sizes are bounded, checksums of what is used must fit.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from invokeai_daemon.errors import JobError, Problem

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Bytes of text of one file, after decompression.
MAX_TEXT = 16 * 1024 * 1024
#: A picture has a few chunks; Photoshop makes thousands of IDAT.
MAX_CHUNKS = 200_000

_TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})


def read_text_chunks(path: Path) -> dict[str, str]:
    """Keyword -> text of a PNG file; the first of equal keywords counts. Raises JobError, OSError."""
    with path.open("rb") as file:
        try:
            return _walk(file)
        except _DamagedError as damage:
            problem = Problem(f"This is no sound PNG file: {damage}.", hint="Copy or save it again.")
            raise JobError(str(path), [problem]) from None


class _DamagedError(Exception):
    pass


def _walk(file: BinaryIO) -> dict[str, str]:
    if file.read(8) != SIGNATURE:
        raise _DamagedError("it does not start like one")
    texts: dict[str, str] = {}
    room = MAX_TEXT
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            raise _DamagedError("it is cut off")
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return texts
        if kind not in _TEXT_CHUNKS:
            file.seek(length + 4, 1)
            continue
        if length > room:
            raise _DamagedError(f"its text is longer than {MAX_TEXT} bytes")
        keyword, text = _text(kind, _body(file, kind, length), room)
        texts.setdefault(keyword, text)
        room -= max(length, len(text))
    raise _DamagedError(f"it has more than {MAX_CHUNKS} chunks")


def _body(file: BinaryIO, kind: bytes, length: int) -> bytes:
    body, checksum = file.read(length), file.read(4)
    if len(checksum) < 4:
        raise _DamagedError("it is cut off")
    if zlib.crc32(body, zlib.crc32(kind)) != struct.unpack(">I", checksum)[0]:
        raise _DamagedError(f"the checksum of its {kind.decode()} chunk is wrong")
    return body


def _text(kind: bytes, body: bytes, room: int) -> tuple[str, str]:
    keyword, _, rest = body.partition(b"\0")
    name = keyword.decode("latin-1")
    if kind == b"tEXt":
        return name, rest.decode("latin-1")
    if kind == b"zTXt":
        return name, _inflated(rest[1:], room).decode("latin-1")
    is_compressed = rest[:1] == b"\x01"
    text = rest[2:].split(b"\0", 2)[-1]
    return name, (_inflated(text, room) if is_compressed else text).decode("utf-8", "replace")


def _inflated(raw: bytes, room: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(raw, room)
    except zlib.error as failure:
        raise _DamagedError("a compressed text is damaged") from failure
    if inflater.unconsumed_tail:
        raise _DamagedError(f"its text is longer than {MAX_TEXT} bytes")
    return text
