"""Settle: when is a file that arrives complete? Called by the intake of models and of jobs. Never reads a clock.

One state machine per (path, device, inode, size, modification time): seen → settling → ready. Any change starts it
again, and nothing is ever given up: a drop that stays incomplete is looked at again, ever more rarely.

- A write-close or rename-in (`sealed`) and a proof of completeness make a drop ready at once.
- Without them it is ready when nothing changed for the quiet period, and nobody has it open for writing.
- A proof that something is missing makes the quiet period longer; then whoever reads the drop says what is missing.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from invokeai_daemon.daemon.guard import Guard

Proof = Literal["complete", "incomplete", "unknown"]

#: A drop that is proven incomplete waits this many quiet periods before somebody is told.
PATIENCE = 3
#: Seconds between looks at a drop that somebody holds open or whose download is marked unfinished.
LONGEST_PAUSE = 60.0

#: Drops that are looked at in one step; looking costs a dozen calls of the system, and many arrive at once.
LOOKS = 128

_UNFINISHED = (".part", ".crdownload", ".aria2")
_IGNORED_SUFFIXES = (
    *_UNFINISHED,
    "~",
    ".tmp",
    ".temp",
    ".partial",
    ".download",
    ".!qb",
    ".!ut",
    ".incomplete",
    ".inprogress",
    ".filepart",
    ".opdownload",
    ".swp",
    ".swx",
)
_IGNORED_NAMES = {"thumbs.db", "desktop.ini", "@eadir", "__macosx", "lost+found", "4913", "readme.md"}
_IGNORED_PATTERN = re.compile(r"~syncthing~.*|\..*|#.*#|.*\.sync-conflict-.*|.*\.sb-[0-9a-f]+-\w+")


class Signature(NamedTuple):
    """What changes when a file changes."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> Signature:
        """The signature of what the path leads to. Raises OSError."""
        found = path.stat()
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    @classmethod
    def at(cls, path: Path) -> Signature | None:
        """The same; None where nothing is that could be looked at."""
        try:
            return cls.of(path)
        except OSError:
            return None

    @classmethod
    def of_folder(cls, path: Path) -> Signature:
        """One signature for all that is below a folder. Raises OSError when it is gone."""
        size, modified, count = 0, 0, 0
        to_do = [str(path)]
        while to_do:
            for entry in _entries(to_do.pop()):
                # A listing, not paths: models of tens of thousands of files are walked in the daemon's loop.
                try:
                    if entry.is_dir(follow_symlinks=False):
                        to_do.append(entry.path)
                        continue
                    is_folder = entry.is_dir()
                    count += not is_folder
                    found = None if is_folder else entry.stat()
                except OSError:
                    count += 1
                    continue
                if found is not None:
                    size += found.st_size
                    modified = max(modified, found.st_mtime_ns)
        found = path.stat()
        return cls(found.st_dev, found.st_ino, size, modified + count)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def is_ignored(name: str) -> bool:
    """Names of partial downloads, of editors' and synchronisers' own files, and hidden ones: never a drop."""
    lower = name.lower()
    return lower in _IGNORED_NAMES or lower.endswith(_IGNORED_SUFFIXES) or bool(_IGNORED_PATTERN.fullmatch(lower))


def marks_unfinished(name: str) -> bool:
    """Whether the end of this file can mean that its sibling is complete."""
    return name.lower().endswith(_UNFINISHED)


def unfinished_sibling(path: Path) -> Path | None:
    """`X.part`, `X.crdownload` or `X.aria2` beside `X`: then X is not complete, whatever it looks like."""
    for suffix in _UNFINISHED:
        sibling = path.with_name(path.name + suffix)
        if os.path.lexists(sibling):
            return sibling
    return None


def is_being_written(path: Path) -> bool:
    """Whether somebody has the file open for writing. False where the file system or the owner cannot tell.

    A read lease is granted only while nobody writes; we hold it for an instant. The signal that a breaking writer
    would send us in that instant is changed to one that is ignored by default.
    """
    # A pipe that is opened wakes whoever waits at its other end.
    if not hasattr(fcntl, "F_SETLEASE") or not is_regular(path):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


@dataclass
class _Arrival:
    signature: Signature
    #: When it was first seen like this.
    since: float
    #: When to look again.
    due: float
    #: Closed after writing, or renamed in, since it was first seen like this.
    sealed: bool = False
    #: Looks that found it incomplete or in use.
    looks: int = 0
    #: What its content proved: it says the same again as long as nothing changes.
    proof: Proof | None = None


@dataclass
class Settler:
    """The drops of one folder that are not ready yet. Times are of a monotonic clock, in seconds."""

    #: How long a drop without proof must stay unchanged.
    quiet: float
    #: Whether a drop is complete, told from its content.
    proof: Callable[[Path], Proof]
    signature: Callable[[Path], Signature] = Signature.of
    #: What keeps a fault over one drop from the others.
    guard: Guard = field(default_factory=lambda: Guard(lambda path, fault: None))
    _arrivals: dict[Path, _Arrival] = field(default_factory=dict)
    _next: float = float("inf")

    def __len__(self) -> int:
        return len(self._arrivals)

    def __contains__(self, path: Path) -> bool:
        return path in self._arrivals

    def see(self, path: Path, now: float, sealed: bool = False) -> None:
        """A drop is there, or something happened to it. `sealed`: it was closed after writing, or renamed in."""
        try:
            signature = self.signature(path)
        except OSError:
            self._arrivals.pop(path, None)
            return
        arrival = self._arrivals.get(path)
        if arrival is None or arrival.signature != signature:
            arrival = self._arrivals[path] = _Arrival(signature, now, now + self.quiet)
        if sealed:
            arrival.sealed, arrival.due, arrival.proof = True, now, None
        self._next = min(self._next, arrival.due)

    def again(self, path: Path, now: float, sealed: bool) -> None:
        """Something that the drop needs has changed: its proof is asked for again. `sealed`: that may be all of it."""
        arrival = self._arrivals.get(path)
        if arrival is not None:
            arrival.since, arrival.proof, arrival.sealed = now, None, sealed
            arrival.due = now if sealed else now + self.quiet
            self._next = min(self._next, arrival.due)

    def paths(self) -> list[Path]:
        """All drops that are not ready."""
        return list(self._arrivals)

    def forget(self, path: Path) -> None:
        self._arrivals.pop(path, None)

    def keep_only(self, paths: Iterable[Path]) -> None:
        """After a full scan: what the scan did not find is gone."""
        for path in self._arrivals.keys() - set(paths):
            del self._arrivals[path]

    def next_time(self) -> float:
        """When `ready` should be called next; infinity when nothing is settling."""
        return self._next if self._arrivals else float("inf")

    def ready(self, now: float, limit: int = 64) -> list[Path]:
        """The drops that are complete now, at most `limit`, in order of arrival; they are forgotten here."""
        if now < self.next_time():
            return []
        found: list[Path] = []
        due = (path for path, arrival in self._arrivals.items() if arrival.due <= now)
        for path in list(islice(due, LOOKS)):
            if len(found) == limit:
                break
            is_ready = False
            with self.guard.over(path):
                is_ready = self._is_ready(path, now)
            if is_ready or self.guard.passes_over(path):
                self._arrivals.pop(path, None)
            if is_ready:
                found.append(path)
        self._next = min((arrival.due for arrival in self._arrivals.values()), default=float("inf"))
        return found

    def pending(self, now: float, longer_than: float) -> list[tuple[Path, str]]:
        """Drops that have been waiting for longer, each with what they wait for."""
        return [
            (path, _what_is_awaited(path))
            for path, arrival in self._arrivals.items()
            if now - arrival.since > longer_than
        ]

    def _is_ready(self, path: Path, now: float) -> bool:
        arrival = self._arrivals[path]
        try:
            signature = self.signature(path)
        except OSError:
            del self._arrivals[path]
            return False
        if signature != arrival.signature:
            self._arrivals[path] = _Arrival(signature, now, now + self.quiet)
            return False
        if unfinished_sibling(path) is not None or is_being_written(path):
            return self._later(arrival, now)
        quiet_for = now - arrival.since
        if not arrival.sealed and quiet_for < self.quiet:
            arrival.due = arrival.since + self.quiet
            return False
        return self._is_proven(path, arrival, now, quiet_for)

    def _is_proven(self, path: Path, arrival: _Arrival, now: float, quiet_for: float) -> bool:
        if arrival.proof is None:
            arrival.proof = self.proof(path)
        patience = self.quiet * {"complete": 0, "unknown": 1, "incomplete": PATIENCE}[arrival.proof]
        if quiet_for < patience:
            arrival.sealed = False
            arrival.due = arrival.since + patience
            return False
        return True

    def _later(self, arrival: _Arrival, now: float) -> bool:
        arrival.looks += 1
        arrival.due = now + min(LONGEST_PAUSE, max(self.quiet, 0.5) * arrival.looks)
        return False


def _what_is_awaited(path: Path) -> str:
    sibling = unfinished_sibling(path)
    if sibling is not None:
        return f"is not complete while {sibling.name} exists"
    if is_being_written(path):
        return "is still open for writing by another program"
    return "has not settled yet"


def is_regular(path: Path) -> bool:
    """Whether a path leads to a regular file (links are followed); pipes, sockets and devices are never opened."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
