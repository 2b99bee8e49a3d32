"""Download: one file over HTTP, whole and checked. Called by `fetch` for addresses and for files of repositories.

Bytes are appended to a partial file with a note beside it, so that the next try, the next process and the next start go
on where this one stopped; `If-Range` makes the server start anew when the file has changed since.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import urllib3

from invokeai_daemon import files
from invokeai_daemon.errors import DiskFull, FetchInterrupted, InstallError
from invokeai_daemon.models.install.checks import Checksum, Digests
from invokeai_daemon.models.install.names import proposed_name, strangeness
from invokeai_daemon.models.install.sources import shown_url
from invokeai_daemon.models.install.web import Response, Web, reason

_CHUNK = 1 << 18
#: Bytes between two looks at the free room, when the length is not known.
_LOOK_EVERY = 64 << 20
#: A server that sends less per second, over two silences' time, counts as broken off.
LEAST_SPEED = 1024
LONGEST_PAUSE = 60.0
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True)
class Limits:
    """What a download may cost."""

    #: Tries that bring nothing new before it is given up for now.
    retries: int = 5
    #: Seconds of silence.
    timeout: float = 30.0
    #: Bytes of one file.
    largest: int = 100 * 10**9
    #: Bytes that must stay free on the disk.
    reserve: int = 0


@dataclass(frozen=True)
class Wanted:
    """A file to fetch."""

    url: str
    #: As far as they are known before.
    size: int | None = None
    checksum: Checksum | None = None
    #: Whether it should be a model: pages and messages in its place are refused.
    is_model: bool = True


@dataclass(frozen=True)
class Note:
    """What is known of a partial file: enough to ask for the rest of the same content."""

    #: Digest of the address, which may hold secrets.
    address: str = ""
    etag: str = ""
    modified: str = ""
    total: int | None = None
    name: str = ""


@dataclass(frozen=True)
class Fetched:
    """A file that is there, complete and checked, still under its partial name."""

    path: Path
    #: What it should be called.
    name: str
    size: int
    sha256: str
    #: What the server said of it.
    note: Note


class AlreadyThere(Exception):
    """What the server has was fetched before, and is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(str(path))


@dataclass
class Report:
    """Tells how far a download is: `tell(done, total or None)`, at most a few times a second."""

    tell: Callable[[int, int | None], None] = lambda done, total: None
    #: Waits between tries, telling that it is alive.
    pause: Callable[[float], None] = time.sleep


@dataclass
class Download:
    """The way of one file into `partial`."""

    web: Web
    wanted: Wanted
    partial: Path
    limits: Limits = Limits()
    report: Report = field(default_factory=Report)
    #: The file that what the server has was fetched into before, if it is there: then nothing is fetched.
    known: Callable[[Note], Path | None] = lambda note: None
    #: The most bytes that were ever there.
    _furthest: int = 0
    #: Whether what is there came in several parts.
    _is_joined: bool = False

    def run(self) -> Fetched:
        """Fetch it, going on after breaks. Raises FetchInterrupted, DiskFull or InstallError, and AlreadyThere."""
        tries = 0
        while True:
            before = self._furthest
            try:
                return self._attempt()
            except FetchInterrupted as error:
                tries = 1 if self._furthest > before > 0 else tries + 1
                if tries > self.limits.retries:
                    raise
                self.report.pause(error.retry_after or min(LONGEST_PAUSE, 0.5 * 2**tries))

    def _attempt(self) -> Fetched:
        note, have = self._so_far()
        digests = Digests(self.wanted.checksum, self.wanted.size)
        self._is_joined = have > 0
        if have:
            self._digest_again(digests)
        if not have or have != note.total:
            note, have = self._received(note, have, digests)
        return self._checked(note, have, digests)

    # -- what is there ---------------------------------------------------------------------------------------------

    @property
    def _note_file(self) -> Path:
        return self.partial.with_name(f"{self.partial.name}.json")

    def _so_far(self) -> tuple[Note, int]:
        """The note of the partial file and its size; nothing when the rest of it cannot be asked for."""
        with suppress(OSError, ValueError, TypeError):
            note = Note(**json.loads(self._note_file.read_bytes()))
            size = self.partial.stat().st_size
            if note.address == self._address and (note.etag or note.modified) and size <= (note.total or size):
                return note, size
        return Note(), 0

    def _digest_again(self, digests: Digests) -> None:
        with self.partial.open("rb") as file:
            while chunk := file.read(1 << 22):
                digests.update(chunk)
                self.report.tell(0, self.wanted.size)

    # -- asking ----------------------------------------------------------------------------------------------------

    def _received(self, note: Note, have: int, digests: Digests) -> tuple[Note, int]:
        headers = {"Range": f"bytes={have}-", "If-Range": note.etag or note.modified} if have else {}
        with self.web.open(self.wanted.url, headers) as (response, final):
            if have and not _continues(response, have):
                # Another content than before, or a server that cannot go on: all of it comes, unless it refused.
                self._forget()
                if response.status != 200:
                    raise FetchInterrupted(f"{self._what}: the server cannot go on where it stopped.")
                note, have, self._is_joined = Note(), 0, False
                digests.reset()
            self._check_answer(response)
            note = self._note_of(response, final, have, note)
            before = self.known(note)
            if before is not None:
                raise AlreadyThere(before)
            self._check_room(note, have)
            return note, self._append(response, note, have, digests)

    def _check_answer(self, response: Response) -> None:
        if response.status == 416:
            raise InstallError(f"{self._what}: the server answered with a range that nobody asked for.")
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("", "identity"):
            raise InstallError(f"{self._what}: the server sends it compressed ({encoding}), though asked not to.")

    def _note_of(self, response: Response, final: str, have: int, before: Note) -> Note:
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        if response.status == 206 and (matched := _RANGE.fullmatch(response.headers.get("Content-Range", ""))):
            total = int(matched[2]) if matched[2].isdecimal() else total
        etag = response.headers.get("ETag", "")
        note = Note(
            address=self._address,
            # A weak one promises something alike, which is not enough to join two halves.
            etag="" if etag.startswith("W/") else etag,
            modified=response.headers.get("Last-Modified", ""),
            total=total,
            name=before.name or proposed_name(response.headers.get("Content-Disposition", ""), self.wanted.url, final),
        )
        if self.wanted.size is not None and total is not None and total != self.wanted.size:
            raise InstallError(f"{self._what}: the server has {total:,} bytes, where {self.wanted.size:,} should be.")
        files.write_atomically(self._note_file, json.dumps(asdict(note)), durable=False)
        return note

    def _check_room(self, note: Note, have: int) -> None:
        size = note.total if note.total is not None else self.wanted.size
        self._check_size(size or have)
        needed = max(0, (size or have) - have) + self.limits.reserve
        free = shutil.disk_usage(self.partial.parent).free
        if free < needed:
            raise DiskFull(
                f"{self._what} needs {_shown_bytes(needed)} on the disk of {self.partial.parent.parent.parent}, "
                f"which has {_shown_bytes(free)} free. Make room; it goes on then."
            )

    def _check_size(self, size: int) -> None:
        if size > self.limits.largest:
            raise InstallError(
                f"{self._what} has {_shown_bytes(size)}, more than [install] max_gb allows "
                f"({_shown_bytes(self.limits.largest)})."
            )

    # -- bytes -----------------------------------------------------------------------------------------------------

    def _append(self, response: Response, note: Note, have: int, digests: Digests) -> int:
        pace = _Pace(self.limits.timeout)
        try:
            with self.partial.open("ab" if have else "wb") as file:
                next_look = have + _LOOK_EVERY
                # What has come is taken at once, so that a slow server is seen to be alive.
                while chunk := response.read1(_CHUNK, decode_content=False):
                    if have == 0:
                        self._check_start(chunk, response)
                    file.write(chunk)
                    # What is written outlives this process, so that the next one goes on from here.
                    file.flush()
                    digests.update(chunk)
                    have += len(chunk)
                    self._furthest = max(self._furthest, have)
                    self.report.tell(have, note.total)
                    pace.check(len(chunk), self._what)
                    if note.total is None and have >= next_look:
                        next_look = have + _LOOK_EVERY
                        self._check_room(note, have)
                os.fsync(file.fileno())
        except urllib3.exceptions.HTTPError as error:
            raise FetchInterrupted(f"{self._what}: {reason(error)} after {_shown_bytes(have)}.") from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(f"{self._what}: the disk is full. Make room; it goes on then.") from error
            raise
        return have

    def _check_start(self, chunk: bytes, response: Response) -> None:
        strange = self.wanted.is_model and strangeness(chunk[:4096], response.headers.get("Content-Type", ""))
        if strange:
            raise InstallError(f"{self._what} is {strange}.")

    def _checked(self, note: Note, have: int, digests: Digests) -> Fetched:
        total = note.total if note.total is not None else self.wanted.size
        if total is not None and have != total:
            raise FetchInterrupted(f"{self._what}: {have:,} of {total:,} bytes came.")
        if have == 0 and self.wanted.is_model:
            raise FetchInterrupted(f"{self._what}: the server sent nothing.")
        self._check_size(have)
        mismatch = digests.mismatch()
        if mismatch:
            self._forget()
            # Parts of two contents can have been joined; what came in one piece is as it is.
            kind = FetchInterrupted if self._is_joined else InstallError
            raise kind(f"{self._what} is not what it should be: {mismatch}.")
        return Fetched(self.partial, note.name, have, digests.sha256, note)

    def _forget(self) -> None:
        self.partial.unlink(missing_ok=True)
        self._note_file.unlink(missing_ok=True)

    @property
    def _address(self) -> str:
        return hashlib.sha256(self.wanted.url.encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def _what(self) -> str:
        return shown_url(self.wanted.url)


@dataclass
class _Pace:
    """Notices a server that sends a few bytes at a time, so that it never falls silent and never ends."""

    timeout: float
    since: float = field(default_factory=time.monotonic)
    received: int = 0

    def check(self, count: int, what: str) -> None:
        self.received += count
        passed = time.monotonic() - self.since
        if passed < 2 * self.timeout:
            return
        if self.received < LEAST_SPEED * passed:
            raise FetchInterrupted(f"{what}: the server sends {self.received / passed:.0f} bytes a second only.")
        self.since, self.received = time.monotonic(), 0


def _continues(response: Response, have: int) -> bool:
    matched = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return response.status == 206 and matched is not None and int(matched[1]) == have


def _shown_bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
