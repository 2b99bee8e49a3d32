"""Checks: what a fetched file must be, and the digests that show whether it is. Called while its bytes pass by."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from invokeai_daemon.errors import InstallError

_DIGITS = {"sha256": 64, "blake3": 64, "git-sha1": 40}
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Checksum:
    """What a file's digest must be. `git-sha1` is the name that git gives to a small file's content."""

    kind: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Checksum:
        """ "sha256:…", "blake3:…", or 64 digits alone, which are a sha256. Raises InstallError."""
        kind, _, digest = text.strip().lower().rpartition(":")
        kind = kind or "sha256"
        if kind not in _DIGITS or not re.fullmatch(rf"[0-9a-f]{{{_DIGITS[kind]}}}", digest):
            raise InstallError(f'"{text}" is no checksum. Write sha256: or blake3: and 64 hexadecimal digits.')
        return cls(kind, digest)

    def __str__(self) -> str:
        return f"{self.kind}:{self.digest}"


class _Digest(Protocol):
    def update(self, data: bytes, /) -> object: ...
    def hexdigest(self) -> str: ...


class Digests:
    """The sha256 of the bytes that passed by, and the digest that somebody expects."""

    def __init__(self, expected: Checksum | None, size: int | None) -> None:
        self._expected, self._size = expected, size
        self.reset()

    def reset(self) -> None:
        """Forget what passed by."""
        expected, size = self._expected, self._size
        self._sha256 = hashlib.sha256()
        self._other: _Digest | None = None
        if expected is not None and expected.kind == "blake3":
            self._other = blake3()
        elif expected is not None and expected.kind == "git-sha1":
            self._other = hashlib.sha1(b"blob %d\0" % (size or 0), usedforsecurity=False)

    def update(self, data: bytes) -> None:
        self._sha256.update(data)
        if self._other is not None:
            self._other.update(data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def mismatch(self) -> str:
        """How the bytes differ from what is expected, as a phrase; empty when they do not."""
        if self._expected is None:
            return ""
        found = self._other.hexdigest() if self._other is not None else self.sha256
        if found == self._expected.digest:
            return ""
        return f"its {self._expected.kind} is {found}, not {self._expected.digest}"


def digests_of(path: Path, expected: Checksum | None = None, size: int | None = None) -> Digests:
    """The digests of a file as it is. Raises OSError."""
    digests = Digests(expected, size)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digests.update(chunk)
    return digests
