"""Presence: which of many paths are there, without asking for each of them each time.

Called by the registry, whose entries are asked about twice a second. A folder is listed once and again when its
modification time moves, which it does whenever a name in it comes, goes or changes.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

#: A folder that changed this shortly before it was listed may have changed again within the same tick of its clock.
RACY_NS = 2_000_000_000
#: A link says nothing about its target: it is followed again after this time.
LINK_SECONDS = 5.0


@dataclass
class _Folder:
    """A folder as it was when it was listed."""

    #: Device, inode and modification time; None when the folder is not there.
    signature: tuple[int, int, int] | None
    is_settled: bool
    listed: float
    has_links: bool = False
    #: Name → whether there is something; names that were not listed are looked up once.
    there: dict[str, bool] = field(default_factory=dict)


class Presence:
    """Says which paths exist; right as of the last `look`."""

    def __init__(self) -> None:
        self._folders: dict[str, _Folder] = {}

    def look(self) -> bool:
        """Look at the folders again; whether any may have other content than at the last look."""
        changed = [path for path, folder in self._folders.items() if not _is_as_before(path, folder)]
        for path in changed:
            del self._folders[path]
        return bool(changed)

    def has(self, path: str) -> bool:
        """Whether something exists at an absolute path; a link counts when it leads to something."""
        parent, name = os.path.split(path)
        folder = self._folders.get(parent)
        if folder is None:
            folder = self._folders[parent] = _listed(parent)
        there = folder.there.get(name)
        if there is None:
            there = folder.there[name] = folder.signature is not None and Path(path).exists()
        return there


def _signature(path: str) -> tuple[int, int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _is_as_before(path: str, folder: _Folder) -> bool:
    if folder.has_links and time.monotonic() - folder.listed > LINK_SECONDS:
        return False
    return folder.is_settled and _signature(path) == folder.signature


def _listed(path: str) -> _Folder:
    signature = _signature(path)
    is_settled = signature is None or abs(time.time_ns() - signature[2]) > RACY_NS
    folder = _Folder(signature, is_settled, time.monotonic())
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_symlink():
                    folder.has_links = True
                else:
                    folder.there[entry.name] = True
    except OSError:
        pass
    return folder
