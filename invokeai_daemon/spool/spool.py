"""Spool: the inbox and its state folders. Called by the daemon and by the job commands; keeps no truth in memory.

A job file is in exactly one folder, and every step of its life is one rename. Steps are durable after `sync`, which the
daemon calls once for many of them; the steps a person asks for (`cancel`, `retry`) sync at once. Never reads what a
job asks for: that is the caller's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from invokeai_daemon import files
from invokeai_daemon.root import INPUTS, STATES, Root
from invokeai_daemon.spool import disk, tries
from invokeai_daemon.spool.names import QueuedName, numbered, parse_queued, safe_id

WHY = ".why.txt"
ERROR = ".error.txt"
#: What a job in a state folder may be: a job, or a drop that became or failed to become jobs.
DROP_SUFFIXES = (".toml", ".png", ".txt")
_NOTES = (WHY, ERROR, tries.SUFFIX)


@dataclass(frozen=True)
class Ticket:
    """One job's place in the spool, as it was when somebody looked."""

    id: str
    #: One of root.STATES.
    state: str
    path: Path
    #: Known of queued jobs: −1000 … 1000, higher runs first.
    priority: int = 0
    #: Known of queued jobs: lower came first.
    sequence: int = 0

    @property
    def order(self) -> tuple[int, int]:
        """Sorts in running order."""
        return (-self.priority, self.sequence)


class Spool:
    """The jobs of one root."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self._unsynced: set[Path] = set()
        self._unsynced_files: set[Path] = set()
        self._queued: dict[str, Ticket] | None = None
        self._last_sequence = 0
        self._next_suffix: dict[str, int] = {}

    # -- looking ---------------------------------------------------------------------------------------------------

    def jobs(self, state: str) -> list[Ticket]:
        """The jobs of a state; queued ones in running order, others by name. Failed drops that are no jobs count."""
        tickets = (_ticket(state, Path(entry.path)) for entry in files.entries(self.root.state_folder(state)))
        found = [ticket for ticket in tickets if ticket is not None and ticket.path.suffix in _suffixes(state)]
        return sorted(found, key=lambda ticket: (*ticket.order, ticket.id))

    def set_aside_drops(self) -> list[Ticket]:
        """The drops in running/ that are being taken apart into jobs."""
        tickets = (_ticket("running", Path(entry.path)) for entry in files.entries(self.root.state_folder("running")))
        return [ticket for ticket in tickets if ticket is not None and ticket.path.suffix != ".toml"]

    def find(self, name: str) -> Ticket | None:
        """The job with this id, or the only one whose id starts so."""
        every = [ticket for state in STATES for ticket in self.jobs(state)]
        exact = [ticket for ticket in every if ticket.id == name]
        begins = exact or [ticket for ticket in every if ticket.id.startswith(name)]
        return begins[0] if len(begins) == 1 else None

    def note(self, ticket: Ticket) -> str:
        """Why the job waits or failed: the text beside it; empty when there is none."""
        for suffix in (ERROR, WHY):
            with suppress(OSError):
                return _beside(ticket, suffix).read_text("utf-8", "replace")
        return ""

    def count(self, state: str) -> int:
        """How many jobs are in a state."""
        folder, suffixes = self.root.state_folder(state), _suffixes(state)
        return sum(1 for entry in files.entries(folder) if entry.name.endswith(suffixes) and _is_ours(entry.name))

    @property
    def paused(self) -> bool:
        return os.path.lexists(self.root.inbox / "PAUSE")

    # -- the way of a job ------------------------------------------------------------------------------------------

    def accept(self, source: Path, job_id: str, priority: int) -> Ticket:
        """Move a valid drop into queued/, under a free id. Links are copied: nobody can change the job from outside.

        Raises FileNotFoundError when somebody took the drop away first.
        """
        ticket = self._into_queue(source, job_id, priority)
        self._forget_error(job_id)
        return ticket

    def add(self, job_id: str, content: bytes, priority: int) -> Ticket | None:
        """Write a new queued job under exactly this id; None when a job of this id exists (it was added before)."""
        if self.is_known(job_id, (".toml",)):
            return None
        ticket = self._place_in_queue(job_id, priority)
        files.write_atomically(ticket.path, content, durable=False)
        self._note(ticket.path.parent, file=ticket.path)
        self._index()[job_id] = ticket
        return ticket

    def set_aside(self, source: Path, job_id: str) -> Ticket:
        """Move a drop that becomes several jobs, or one under another name, into running/ while it is taken apart."""
        ticket = self._place(source, "running", job_id, source.suffix.lower())
        self._forget_error(job_id)
        return ticket

    def wait(self, ticket: Ticket, why: str) -> Ticket:
        """Let a job wait; `why` says for what. An unchanged text is not written again."""
        return self._move(ticket, "waiting", WHY, why)

    def requeue(self, ticket: Ticket, priority: int) -> Ticket:
        """Back to the queue: a waiting job whose need is met, or a queued one whose priority was edited."""
        queued = self._into_queue(ticket.path, ticket.id, priority, ticket.sequence)
        self._drop_notes(ticket, keep="")
        return queued

    def claim(self, ticket: Ticket, job_id: str | None = None) -> Ticket:
        """Queued → running: the first try begins. `job_id` renames the job on the way.

        Raises FileNotFoundError when the user deleted or moved it first.
        """
        self._index().pop(ticket.id, None)
        return self._move(replace(ticket, id=job_id or ticket.id), "running")

    def finish(self, ticket: Ticket) -> Ticket:
        """All images are published."""
        return self._move(ticket, "done")

    def fail(self, ticket: Ticket, error: str) -> Ticket:
        """The job needs the user; `error` says what, where, what was seen and what to do."""
        return self._move(ticket, "failed", ERROR, error)

    def reject(self, source: Path, stem: str, error: str) -> Ticket:
        """A drop that is no job: straight into failed/ with its error."""
        suffix = source.suffix.lower() if source.suffix.lower() in DROP_SUFFIXES else source.suffix
        return self._place(source, "failed", self.free_id(stem), suffix, ERROR, error)

    # -- what a person asks for ------------------------------------------------------------------------------------

    def cancel(self, ticket: Ticket) -> None:
        """Remove a queued, waiting or running job; what is rendered of it stays in outputs/."""
        ticket.path.unlink(missing_ok=True)
        self._note(ticket.path.parent)
        self.forget(ticket)
        self.sync()

    def retry(self, ticket: Ticket) -> Path:
        """Move a failed job back to the inbox; the new path. It goes on at the first image that is not published."""
        target = self.root.inbox / f"{ticket.id}{ticket.path.suffix}"
        files.move(ticket.path, target)
        return target

    def pause(self) -> None:
        (self.root.inbox / "PAUSE").touch()

    def resume(self) -> None:
        (self.root.inbox / "PAUSE").unlink(missing_ok=True)

    # -- crashes and edits -----------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Make the folders, and remove what a crash left unfinished and notes of jobs that are gone."""
        self.root.make()
        folders = [self.root.inbox, *(self.root.state_folder(state) for state in STATES)]
        files.remove_leftovers(folders)
        for state in ("waiting", "running"):
            self._remove_stray_notes(state)
        self._queued = None

    def queued(self, job_id: str) -> Ticket | None:
        """The queued job of this id, from memory."""
        return self._index().get(job_id)

    @property
    def queued_count(self) -> int:
        """How many jobs are queued, from memory."""
        return len(self._index())

    def strangers(self) -> list[Path]:
        """What lies in queued/ under names that the spool did not give."""
        folder = self.root.state_folder("queued")
        return [Path(entry.path) for entry in files.entries(folder) if parse_queued(entry.name) is None]

    def look_at_queue(self) -> dict[str, Ticket]:
        """Read queued/ again; id → ticket."""
        self._queued = None
        return self._index()

    def forget(self, ticket: Ticket) -> None:
        """A job file is gone by the user's hand: remove its notes."""
        self._drop_notes(ticket, keep="")
        if self._queued is not None and ticket.state == "queued":
            self._queued.pop(ticket.id, None)

    def touched(self, path: Path) -> Ticket | None:
        """What is at a path of a state folder now; keeps the memory of the queue right. None when nothing is."""
        ticket = _ticket(path.parent.name, path) if path.name else None
        if path.parent.name == "queued" and ticket is not None:
            if not path.exists():
                known = self._index().get(ticket.id)
                if known is not None and known.path == path:
                    del self._index()[ticket.id]
            else:
                self._index()[ticket.id] = ticket
        return ticket if ticket is not None and os.path.lexists(path) else None

    def is_known(self, job_id: str, suffixes: Iterable[str] = DROP_SUFFIXES) -> bool:
        """Whether a job of this id is anywhere in the spool."""
        if job_id in self._index():
            return True
        folders = (self.root.state_folder(state) for state in STATES if state != "queued")
        return any(os.path.lexists(folder / f"{job_id}{suffix}") for folder in folders for suffix in suffixes)

    def sync(self) -> None:
        """Make every step since the last call durable."""
        folders, written = self._unsynced, self._unsynced_files
        self._unsynced, self._unsynced_files = set(), set()
        disk.sync(folders, written)

    # -- inside ----------------------------------------------------------------------------------------------------

    def free_id(self, stem: str) -> str:
        """The stem's id; with a number when a job or results of that name exist and it is no retry of that job."""
        wanted = safe_id(stem)
        if self._is_retry(wanted) or not self._is_taken(wanted):
            return wanted
        number = self._next_suffix.get(wanted, 2)
        while self._is_taken(numbered(wanted, number)):
            number += 1
        if len(self._next_suffix) > 10_000:
            self._next_suffix.clear()
        self._next_suffix[wanted] = number + 1
        return numbered(wanted, number)

    def _is_retry(self, job_id: str) -> bool:
        """A failed job that was moved back to the inbox leaves its error behind."""
        return not self.is_known(job_id) and (self.root.state_folder("failed") / f"{job_id}{ERROR}").exists()

    def _forget_error(self, job_id: str) -> None:
        """The job is tried again."""
        (self.root.state_folder("failed") / f"{job_id}{ERROR}").unlink(missing_ok=True)

    def _is_taken(self, job_id: str) -> bool:
        return self.is_known(job_id) or self._has_results(job_id)

    def _has_results(self, job_id: str) -> bool:
        """Whether a job of this id was begun; one that a crash kept from being accepted left its pictures only."""
        folder = self.root.outputs / job_id
        if not folder.is_dir():
            return os.path.lexists(folder)
        return any(entry.name != INPUTS for entry in files.entries(folder))

    def _into_queue(self, source: Path, job_id: str, priority: int, sequence: int = 0) -> Ticket:
        ticket = self._place_in_queue(job_id, priority, sequence)
        if source != ticket.path:
            self._take(source, ticket.path)
        self._index()[job_id] = ticket
        return ticket

    def _place_in_queue(self, job_id: str, priority: int, sequence: int = 0) -> Ticket:
        index = self._index()
        self._last_sequence = max(self._last_sequence + (0 if sequence else 1), sequence)
        name = QueuedName(priority, sequence or self._last_sequence, job_id)
        path = self.root.state_folder("queued") / str(name)
        index.pop(job_id, None)
        return Ticket(job_id, "queued", path, name.priority, name.sequence)

    def _index(self) -> dict[str, Ticket]:
        if self._queued is None:
            tickets = self.jobs("queued")
            self._queued = {ticket.id: ticket for ticket in tickets}
            self._last_sequence = max([self._last_sequence, *(ticket.sequence for ticket in tickets)])
        return self._queued

    def _move(self, ticket: Ticket, state: str, note: str = "", text: str = "") -> Ticket:
        if ticket.state == "queued":
            self._index().pop(ticket.id, None)
        moved = self._place(ticket.path, state, ticket.id, ticket.path.suffix, note, text)
        if moved.path != ticket.path:
            self._drop_notes(ticket, keep=tries.SUFFIX if state == "running" else "")
        return replace(moved, priority=ticket.priority, sequence=ticket.sequence)

    def _place(self, source: Path, state: str, job_id: str, suffix: str, note: str = "", text: str = "") -> Ticket:
        """Move a file to a free name in a state folder, after its note, so that nobody sees the job without it."""
        target, number = self.root.state_folder(state) / f"{job_id}{suffix}", 2
        while source != target and os.path.lexists(target):
            target = self.root.state_folder(state) / f"{numbered(job_id, number)}{suffix}"
            number += 1
        ticket = Ticket(target.name.removesuffix(suffix), state, target)
        if note:
            self._write_note(ticket, note, text)
        if source != target:
            self._take(source, target)
        return ticket

    def _take(self, source: Path, target: Path) -> None:
        """Move, or copy where the name is a link: then others may hold the file behind it."""
        found = source.lstat()
        if stat.S_ISLNK(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink > 1):
            files.write_atomically(target, source.read_bytes(), durable=False)
            source.unlink(missing_ok=True)
        else:
            files.move(source, target, sync=False)
        self._note(source.parent, target.parent, file=target)

    def _write_note(self, ticket: Ticket, suffix: str, text: str) -> None:
        path = _beside(ticket, suffix)
        text = text.rstrip("\n") + "\n"
        with suppress(OSError):
            if path.read_bytes() == text.encode("utf-8", "backslashreplace"):
                return
        # The state is told by the folder; a disk that takes no note must not hold the job back.
        with suppress(OSError):
            files.write_atomically(path, text.encode("utf-8", "backslashreplace"), durable=False)
            self._note(path.parent, file=path)

    def _drop_notes(self, ticket: Ticket, keep: str) -> None:
        for suffix in _NOTES:
            if suffix != keep:
                with suppress(OSError):
                    _beside(ticket, suffix).unlink()

    def _remove_stray_notes(self, state: str) -> None:
        folder = self.root.state_folder(state)
        for entry in list(files.entries(folder)):
            for suffix in _NOTES:
                if entry.name.endswith(suffix):
                    job_id = entry.name.removesuffix(suffix)
                    if not any(os.path.lexists(folder / f"{job_id}{ending}") for ending in DROP_SUFFIXES):
                        Path(entry.path).unlink(missing_ok=True)

    def _note(self, *folders: Path, file: Path | None = None) -> None:
        self._unsynced.update(folders)
        if file is not None:
            self._unsynced_files.add(file)


def _suffixes(state: str) -> tuple[str, ...]:
    return DROP_SUFFIXES if state == "failed" else (".toml",)


def _is_ours(name: str) -> bool:
    return not name.startswith(".") and not any(name.endswith(suffix) for suffix in _NOTES)


def _beside(ticket: Ticket, suffix: str) -> Path:
    return ticket.path.with_name(ticket.id + suffix)


def _ticket(state: str, path: Path) -> Ticket | None:
    """The job at a path of a state folder; None for notes, temporary files and what is no job."""
    name = path.name
    if not _is_ours(name) or path.suffix not in DROP_SUFFIXES:
        return None
    if state != "queued":
        return Ticket(name.removesuffix(path.suffix), state, path)
    parsed = parse_queued(name)
    if parsed is None:
        return None
    return Ticket(parsed.id, state, path, parsed.priority, parsed.sequence)
