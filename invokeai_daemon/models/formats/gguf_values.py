"""The values in the header of a GGUF file: numbers, texts and arrays, read piece by piece. Called by `gguf`.

No length that the file claims is believed: it is compared with what is left of the file and with what a header may
have, before anything is read. Long arrays (a vocabulary) are passed over, not kept.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import UnreadableModel

#: Bytes before the tensors; the vocabulary of a language model takes some 10 MB.
MAX_HEADER = 64 * 1024 * 1024
MAX_TEXT = 1024 * 1024
#: Texts of one array; the largest vocabularies have 260,000.
MAX_TEXTS = 1_000_000
#: Arrays up to this length are kept, longer ones are passed over.
KEPT_ARRAY = 64

U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
#: Values by the number of their type, without texts and arrays.
_NUMBERS = {
    number: struct.Struct(f"<{form}")
    for number, form in zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True)
}
_TEXT, _ARRAY = 8, 9


class CutOffHeader(UnreadableModel):
    """The header goes on beyond the end of the file."""


def broken(path: Path, why: str) -> UnreadableModel:
    return UnreadableModel(f"{path}: a broken GGUF file: {why}. Get the model again.")


class HeaderReader:
    """The header from its start, in pieces; never more than `most` bytes of it."""

    _PIECE = 256 * 1024

    def __init__(self, path: Path, descriptor: int, size: int, most: int = MAX_HEADER) -> None:
        self.path, self.descriptor, self.size, self.most = path, descriptor, size, most
        self._raw = b""
        #: Where `_raw` begins in the file, and how much of it is used.
        self._start = self._used = 0

    @property
    def at(self) -> int:
        return self._start + self._used

    def take(self, count: int) -> bytes:
        """The next bytes. Raises UnreadableModel when the file has not as many, or they are too many."""
        self.expect(count)
        if self._used + count > len(self._raw):
            self._start, self._used = self.at, 0
            self._raw = os.pread(self.descriptor, max(count, self._PIECE), self._start)
            if len(self._raw) < count:
                raise CutOffHeader(f"{self.path}: the file became shorter while it was read.")
        piece = self._raw[self._used : self._used + count]
        self._used += count
        return piece

    def expect(self, count: int) -> None:
        """Whether so many bytes can follow. Raises UnreadableModel otherwise."""
        if self.at + count > self.most:
            raise broken(self.path, f"its header would have more than {self.most:,} bytes")
        if self.at + count > self.size:
            raise CutOffHeader(f"{self.path}: cut off within its header, or its lengths are wrong. Copy it again.")

    def skip(self, count: int) -> None:
        self.expect(count)
        self._used += count
        if self._used > len(self._raw):
            self._start, self._used, self._raw = self.at, 0, b""

    def number(self, form: struct.Struct) -> Any:
        return form.unpack(self.take(form.size))[0]

    def text(self, *, strict: bool = False) -> str:
        length = self._text_length()
        try:
            return self.take(length).decode("utf-8", "strict" if strict else "replace")
        except UnicodeDecodeError:
            raise broken(self.path, "a name in it is not UTF-8") from None

    def _text_length(self) -> int:
        length: int = self.number(U64)
        if length > MAX_TEXT:
            raise broken(self.path, f"a text of {length:,} bytes stands in its header")
        return length

    def value(self, kind: int) -> Any:
        """A number, truth value, text or list; of a long array only what it is."""
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY:
            return self._array(self.number(U32), self.number(U64))
        if kind not in _NUMBERS:
            raise broken(self.path, f"a value of the unknown type {kind} stands in its header")
        return self.number(_NUMBERS[kind])

    def _array(self, kind: int, count: int) -> Any:
        if kind == _ARRAY:
            raise broken(self.path, "arrays of arrays stand in its header")
        if kind == _TEXT and count > MAX_TEXTS:
            raise broken(self.path, f"an array of {count:,} texts stands in its header")
        if kind != _TEXT and kind not in _NUMBERS:
            raise broken(self.path, f"an array of the unknown type {kind} stands in its header")
        width = 8 if kind == _TEXT else _NUMBERS[kind].size
        self.expect(count * width)
        if count <= KEPT_ARRAY:
            return [self.value(kind) for _ in range(count)]
        if kind == _TEXT:
            self._skip_texts(count)
        else:
            self.skip(count * width)
        return f"({count:,} values)"

    def _skip_texts(self, count: int) -> None:
        """Pass over texts; a vocabulary has hundreds of thousands, so those that were read already go by quickly."""
        unpack = U64.unpack_from
        while count:
            raw, at, last = self._raw, self._used, len(self._raw) - U64.size
            while count and at <= last and (end := at + U64.size + unpack(raw, at)[0]) <= len(raw):
                at, count = end, count - 1
            self._used = at
            if count:
                self.skip(self._text_length())
                count -= 1
