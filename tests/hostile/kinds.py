"""A table of hostile files: each a function that writes one, and what its reason must say.

The payloads are live: interpreted by Python's own pickle they would make the canary, a folder whose existence a test
looks for. Nothing here is loaded by anything but the importer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: Writes the file; the second path is the canary that its payload would make.
Write = Callable[[Path, Path], object]


@dataclass(frozen=True)
class Kind:
    """One way to attack, or to fail."""

    name: str
    write: Write
    #: What the reason must say, as a regular expression.
    reason: str
    state: str = "rejected"


class Table:
    """The kinds of one format, filled by a decorator."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.kinds: list[Kind] = []

    def kind(self, reason: str, state: str = "rejected") -> Callable[[Write], Write]:
        def add(write: Write) -> Write:
            name = f"{self.prefix} {write.__name__.strip('_').replace('_', ' ')}"
            self.kinds.append(Kind(name, write, reason, state))
            return write

        return add

    def add(self, name: str, reason: str, write: Write, state: str = "rejected") -> None:
        self.kinds.append(Kind(f"{self.prefix} {name}", write, reason, state))


def content(raw: bytes) -> Write:
    """A file of these bytes."""
    return lambda path, _canary: path.write_bytes(raw)
