"""Tree: the drops below autoimport/, and which of them a touched path is about. Called by the intake.

Links are followed, loops end, hidden and unfinished names are skipped, and so is what lies deeper than InvokeAI looks.
Only lists folders and reads the state of files; opens nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.settle import is_ignored, marks_unfinished
from invokeai_daemon.models.companions import ENDS
from invokeai_daemon.models.units import entered, is_companion, is_model_folder, is_part, may_be_weights
from invokeai_daemon.root import AUTOIMPORT_FOLDERS

#: Levels of folders that are looked at, InvokeAI's number.
MAX_DEPTH = 20
#: Every name that a companion may have, without its stem; the longest ends first.
COMPANION_ENDS = tuple(sorted((end for ends in ENDS.values() for end in ends), key=len, reverse=True))


class Listing(NamedTuple):
    """One folder of the tree."""

    folder: Path
    #: The drops directly in it; the folder itself when it is one.
    drops: list[Path]
    #: All names in it.
    names: Collection[str]
    #: Whether folders are linked into it.
    has_links: bool


class Crowds:
    """The names in folders in which many files are touched at once: then one listing is cheaper than asking for each.

    A name that comes right after the listing is missed; it is touched itself, and asked about once more.
    """

    #: Touches after which a folder is listed, and the seconds for which touches are counted, and a listing is kept.
    MANY, KEPT = 20, 1.0

    def __init__(self) -> None:
        self._since = 0.0
        self._counts: dict[Path, int] = {}
        self._names: dict[Path, Collection[str]] = {}

    def names(self, folder: Path, now: float) -> Collection[str] | None:
        """The names in a folder; None when it is better to ask for single ones."""
        if not 0 <= now - self._since < self.KEPT:
            self._since, self._counts, self._names = now, {}, {}
        count = self._counts[folder] = self._counts.get(folder, 0) + 1
        if count == self.MANY:
            self._names[folder] = {entry.name for entry in _entries(folder)}
        return self._names.get(folder)


@dataclass(frozen=True)
class Tree:
    """The tree below one folder."""

    top: Path

    def walk(self, start: Path, before: Callable[[Path], None]) -> Iterator[Listing]:
        """The folders from `start` on. `before` is called for each of them before it is listed.

        A folder that is reached both by its own path and through a link is given by its own path. Therefore only a
        walk from the top follows links.
        """
        visited: set[tuple[int, int]] = set()
        inside = self.unit(start) not in (None, start)
        to_do, linked = [(start, self._depth(start), inside)], list[tuple[Path, int, bool]]()
        while to_do or linked:
            folder, depth, inside = to_do.pop() if to_do else linked.pop(0)
            identity = _identity(folder)
            if identity is None or identity in visited:
                continue
            visited.add(identity)
            try:
                before(folder)
                listing, below, links = self._list(folder, inside)
            except Exception:  # noqa: BLE001
                # A fault of ours over one folder: the others are looked at all the same.
                events.exception("folder.fault", path=folder)
                continue
            yield listing
            inside = inside or listing.drops == [folder]
            for name in below if depth < MAX_DEPTH else ():
                if name not in links:
                    to_do.append((folder / name, depth + 1, inside))
                elif start == self.top:
                    linked.append((folder / name, depth + 1, inside))

    def _list(self, folder: Path, inside: bool) -> tuple[Listing, Collection[str], Collection[str]]:
        """A folder, the names of those in it that are entered, and of the links among these."""
        entries = {entry.name: entry for entry in _entries(folder)}
        is_model = not inside and self.is_model(folder)
        below = entered(folder, [name for name, entry in entries.items() if _is_folder(entry)])
        links = {name for name in below if entries[name].is_symlink()}
        drops = [folder] if is_model else [] if inside else self._drops(folder, entries)
        return Listing(folder, drops, entries, bool(links)), below, links

    def is_model(self, folder: Path) -> bool:
        """Whether a folder is one drop. The folders that every root has never are."""
        if folder == self.top or (folder.parent == self.top and folder.name in AUTOIMPORT_FOLDERS):
            return False
        return is_model_folder(folder)

    def unit(self, path: Path) -> Path | None:
        """What a touched path is part of: the model folder that holds it, or itself; None for what never is a drop."""
        parts = path.relative_to(self.top).parts
        above = self.top
        for part in parts[:-1]:
            above = above / part
            if self.is_model(above):
                return above
        if marks_unfinished(path.name):
            return path.with_suffix("")
        return None if is_ignored(path.name) else path

    def models_of(self, path: Path) -> Iterator[Path]:
        """The drops that a touched path is about: itself, or those whose companion it is."""
        if path.is_dir() or (may_be_weights(path.name) and not _is_companion_file(path)):
            yield path
            return
        stem = path.name
        for end in COMPANION_ENDS:
            if stem.lower().endswith(end):
                stem = stem[: -len(end)]
                break
        stem = stem.lower()
        for entry in _entries(path.parent):
            other = Path(entry.path)
            own = entry.name if entry.is_dir() else other.stem
            if own.lower() == stem and entry.name != path.name and self._is_drop(other, entry):
                yield other

    def _is_drop(self, path: Path, entry: os.DirEntry[str]) -> bool:
        if is_ignored(entry.name):
            return False
        if _is_folder(entry):
            return self.is_model(path)
        return may_be_weights(entry.name) and not _is_companion_file(path)

    def _drops(self, folder: Path, entries: dict[str, os.DirEntry[str]]) -> list[Path]:
        if folder.name.startswith("models--"):
            return []
        return [
            folder / name
            for name, entry in entries.items()
            if may_be_weights(name)
            and not is_ignored(name)
            and not _is_folder(entry)
            and not is_companion(name, entries.__contains__)
        ]

    def _depth(self, folder: Path) -> int:
        return len(folder.relative_to(self.top).parts)


def why_not_a_file(path: Path) -> str | None:
    """Why a drop that is no folder can never be read, as the end of a sentence; None for a file, or when it is gone."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if not path.is_symlink():
            return None
        if error.errno == errno.ELOOP:
            return "a link that leads back to itself"
        with suppress(OSError):
            return f"a link to {path.readlink()}, which is not there"
        return "a link that leads nowhere"
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    kinds = (
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISCHR, "a device"),
    )
    return next((what for test, what in kinds if test(mode)), "no regular file")


def is_lone_part(path: Path) -> bool:
    """Whether a file is called like the weights inside a folder: the rest of the folder may still be on its way."""
    return is_part(path.name)


def _is_companion_file(path: Path) -> bool:
    return is_companion(path.name, lambda name: os.path.lexists(path.with_name(name)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir() and not is_ignored(entry.name)
    except OSError:
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
