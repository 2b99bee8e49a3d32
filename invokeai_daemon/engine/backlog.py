"""Backlog: the images that wait for a lane, and which of them is next. Called by the renderer. Never touches a tensor.

Images go by priority, then in order of arrival. One that can join the running forward, or whose model is loaded, is
brought forward past others of the same priority, but only past so many and only so often.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from invokeai_daemon.job.plan import Image, Plan

#: How far ahead of the first an image may be to be brought forward, in images.
REACH = 256
#: How many images may pass the first one before it is next, whatever else would fit better.
PATIENCE = 64


@dataclass(eq=False)
class Ticket:
    """One order to render images of one job."""

    plan: Plan
    #: The job's results folder, which is there.
    folder: Path
    is_cancelled: bool = False


@dataclass(eq=False)
class Work:
    """One image that is to be rendered."""

    ticket: Ticket
    image: Image
    #: True for an image that must share no forward with others.
    alone: bool
    arrival: int
    #: How many images were brought forward past this one.
    passed: int = field(default=0)

    @property
    def priority(self) -> int:
        return self.ticket.plan.priority

    @property
    def model(self) -> tuple[str, str]:
        return self.ticket.plan.model.path, self.ticket.plan.model.hash

    @property
    def group(self) -> tuple[object, ...]:
        """Work with equal groups can share forwards."""
        return self.model, self.image.width, self.image.height, self.image.company, self if self.alone else None


class Backlog:
    """The waiting images, first to run first."""

    def __init__(self) -> None:
        self._waiting: list[Work] = []
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, ticket: Ticket, images: Iterable[Image], alone: bool = False) -> None:
        for image in images:
            self.put_back(Work(ticket, image, alone, next(self._arrivals)))

    def put_back(self, work: Work) -> None:
        """Let an image wait again, where it was before."""
        bisect.insort(self._waiting, work, key=lambda each: (-each.priority, each.arrival))

    def drop_cancelled(self) -> None:
        self._waiting = [work for work in self._waiting if not work.ticket.is_cancelled]

    def take(self, running: Work | None, is_loaded: Callable[[Work], bool]) -> Work | None:
        """The next image, which leaves the backlog; None when none may start now.

        `running` is the image whose group is being denoised; without one any group may start.
        """
        if not self._waiting:
            return None
        chosen = self._first_to_start(is_loaded) if running is None else self._first_to_join(running)
        if chosen is not None:
            self._remove(chosen)
        return chosen

    def _first_to_start(self, is_loaded: Callable[[Work], bool]) -> Work:
        return next((work for work in self._within_reach() if is_loaded(work)), self._waiting[0])

    def _first_to_join(self, running: Work) -> Work | None:
        first = self._waiting[0]
        if first.priority > running.priority and first.model == running.model:
            return first  # a more urgent image interrupts; lanes wait where they are
        if first.priority != running.priority and first.group != running.group:
            return None
        return next((work for work in self._within_reach() if work.group == running.group), None)

    def _within_reach(self) -> Iterator[Work]:
        """The first image, and those that may be brought forward past it."""
        first = self._waiting[0]
        yield first
        if first.passed < PATIENCE:
            yield from (work for work in self._waiting[1:REACH] if work.priority == first.priority)

    def _remove(self, chosen: Work) -> None:
        if chosen is not self._waiting[0]:
            self._waiting[0].passed += 1
        self._waiting.remove(chosen)
