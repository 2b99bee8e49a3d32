"""Guests: pictures in the inbox that jobs name. They belong to their jobs, and are no jobs themselves.

Called by the arrivals. Copied file by file, a job and its pictures come in any order: a job waits for its pictures for
a while, and a picture is not taken for a job before it is clear that nobody names it. Taken pictures leave the inbox
when no other job of their drop can name them any more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from invokeai_daemon import files
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.pictures import Pictures, Place
from invokeai_daemon.daemon.settle import Signature, is_being_written, unfinished_sibling
from invokeai_daemon.job.mentions import pictures_of
from invokeai_daemon.job.schema import Job
from invokeai_daemon.output.looking import PictureError
from invokeai_daemon.root import STATES, Root

#: What a picture that a job waits for is like now; None where nothing is.
State = tuple[tuple[Path, Signature | None], ...]


@dataclass
class Guests:
    """The pictures in one inbox that jobs name."""

    root: Root
    pictures: Pictures
    #: Seconds that a taken picture stays for further jobs of its drop.
    linger: float
    #: Where else the pictures of a job in a file may lie.
    places: Callable[[Path, Job], Sequence[Place]]
    #: Job file that is arriving -> the pictures beside it that it names.
    _named: dict[Path, frozenset[Path]] = field(default_factory=dict)
    #: Job file -> the pictures that it waits for, as they were when it was looked at.
    _awaited: dict[Path, State] = field(default_factory=dict)
    #: Picture that was copied -> how it was then, and when it leaves.
    _taken: dict[Path, tuple[Signature, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """What a stop left: pictures that were taken and had not left yet."""
        with suppress(OSError, ValueError, TypeError):
            noted = json.loads(self._note.read_bytes())
            self._taken = {self.root.inbox / name: (Signature(*seen), 0.0) for name, seen in noted.items()}

    # -- jobs that wait for their pictures -------------------------------------------------------------------------

    def learn(self, path: Path, jobs: tuple[Job, ...]) -> None:
        """A drop was read: these are the jobs in it."""
        asked = {each.asked for job in jobs for each in pictures_of(job)}
        self._named[path] = frozenset(path.parent / one for one in asked)

    def forget(self, path: Path) -> None:
        """A drop has left, or changed."""
        self._named.pop(path, None)
        self._awaited.pop(path, None)

    def awaits(self, path: Path, jobs: tuple[Job, ...]) -> bool:
        """Whether pictures of a drop are not there or not whole yet, which is remembered."""
        state = self._state(path, jobs)
        if state:
            self._awaited[path] = state
        else:
            self._awaited.pop(path, None)
        return bool(state)

    def is_growing(self, path: Path, jobs: tuple[Job, ...]) -> bool:
        """Whether a picture that a drop waits for has changed since it was looked at."""
        before, now = self._awaited.get(path, ()), self._state(path, jobs)
        if now:
            self._awaited[path] = now
        return bool(now) and now != before

    def stirred(self) -> list[Path]:
        """The drops whose pictures have changed since they were looked at."""
        return [path for path, before in self._awaited.items() if any(Signature.at(one) != was for one, was in before)]

    def waiting_for(self, picture: Path) -> list[Path]:
        """The drops that wait for a picture."""
        return [path for path, state in self._awaited.items() if any(one == picture for one, _ in state)]

    def _state(self, path: Path, jobs: tuple[Job, ...]) -> State:
        """What is there of the pictures that are missing, or broken as growing files are."""
        found: dict[Path, Signature | None] = {}
        for job in jobs:
            asked = dict.fromkeys(each.asked for each in pictures_of(job))
            places = [path.parent, *self.places(path, job)] if asked else ()
            found.update(state for one in asked if (state := self._unready(path.parent / one, one, places)) is not None)
        return tuple(found.items())

    def _unready(self, own: Path, asked: str, places: Sequence[Place]) -> tuple[Path, Signature | None] | None:
        place = own
        try:
            place = self.pictures.place(asked, places)
            if place.is_relative_to(self.root.inbox) and (is_being_written(place) or unfinished_sibling(place)):
                return place, Signature.at(place)
            self.pictures.find(asked, places)
        except PictureError as error:
            place = own if not os.path.lexists(own) else place
            return (place, Signature.at(place)) if error.is_passing else None
        except OSError:
            return own, Signature.at(own)
        return None

    # -- pictures that were taken ----------------------------------------------------------------------------------

    def is_guest(self, picture: Path) -> bool:
        """Whether a picture is named by a job that is arriving, or was copied for one."""
        return self.is_taken(picture) or any(picture in named for named in self._named.values())

    def is_taken(self, picture: Path) -> bool:
        """Whether a picture was copied for a job, and is still as it was then."""
        taken = self._taken.get(picture)
        return taken is not None and taken[0] == Signature.at(picture)

    @contextmanager
    def taken(self, pictures: Iterable[Path], now: float) -> Iterator[None]:
        """Pictures were copied: they may leave the inbox once the body has taken their job. Noted before, for a crash.

        A job that is not taken keeps its pictures.
        """
        noted = dict(self._taken)
        for picture in pictures:
            signature = Signature.at(picture)
            if signature is not None and self._is_in_inbox(picture):
                self._taken[picture] = signature, now + self.linger
        if self._taken != noted:
            self._write()
        try:
            yield
        except OSError:
            self._taken = noted
            self._write()
            raise

    def leave(self, now: float, arriving: Iterable[Path]) -> list[Path]:
        """Remove taken pictures that no job of their drop can name any more; where they were."""
        due = [picture for picture, (_, time) in self._taken.items() if time <= now]
        if not due:
            return []
        tops = {self.top(path) for path in arriving}
        gone = []
        for picture in due:
            if self.top(picture) in tops:
                self._taken[picture] = self._taken[picture][0], now + self.linger
                continue
            if self.is_taken(picture):
                with suppress(OSError):
                    picture.unlink(missing_ok=True)
                    events.debug("picture.taken", path=picture)
            del self._taken[picture]
            gone.append(picture)
        self._write()
        return gone

    def next_time(self) -> float:
        """When `leave` should be called next; infinity when nothing is to leave."""
        return min((time for _, time in self._taken.values()), default=float("inf"))

    def __len__(self) -> int:
        """Pictures that are to leave."""
        return len(self._taken)

    def top(self, path: Path) -> Path:
        """The dropped folder that a path lies in; the inbox for what lies there itself."""
        parts = path.relative_to(self.root.inbox).parts if path.is_relative_to(self.root.inbox) else ()
        return self.root.inbox / parts[0] if len(parts) > 1 else self.root.inbox

    def _is_in_inbox(self, picture: Path) -> bool:
        return picture.is_relative_to(self.root.inbox) and self.top(picture).name not in STATES

    @property
    def _note(self) -> Path:
        return self.root.state / "guests.json"

    def _write(self) -> None:
        """For the case of a crash: a picture that was taken is not taken for a job afterwards."""
        taken = {str(path.relative_to(self.root.inbox)): seen for path, (seen, _) in self._taken.items()}
        with suppress(OSError):
            files.write_atomically(self._note, json.dumps(taken), durable=False)
