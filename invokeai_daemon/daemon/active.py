"""Active jobs: which images a worker holds, which come next, and how each ended. Called by the renderer's keeper.

The order is that of the queue. A window of images is handed out ahead, so that the lanes of the renderer stay full
across jobs. An image whose worker died is a suspect: it is tried again alone. Of all suspects on the board the one with
the fewest lost tries goes first, so that kills from outside, which hit whatever is being rendered, do not use up the
tries of one image. When its tries are used up it fails and its job goes on.

What a death costs depends on who may have caused it. A worker that crashes was most likely brought down by an image:
one try. A worker or a daemon that somebody killed, or a machine that lost its power, hardly: half a try.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from invokeai_daemon.job.plan import Plan
from invokeai_daemon.output.results import Outcome, Results
from invokeai_daemon.spool.spool import Ticket
from invokeai_daemon.spool.tries import Tries

#: Tries that a death costs each image that was held: a crash, and an end from outside.
CRASH, INTERRUPTION = 1.0, 0.5


@dataclass
class Active:
    """One running job."""

    ticket: Ticket
    plan: Plan
    results: Results
    tries: Tries
    #: Image number → how it ended.
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    #: Images that may share a forward with others, in order.
    fresh: list[int] = field(default_factory=list)
    #: Images that are tried alone.
    suspects: set[int] = field(default_factory=set)
    #: Image number → monotonic time before which it is not tried again.
    not_before: dict[int, float] = field(default_factory=dict)
    #: Image number → why its last try ended badly.
    reasons: dict[int, str] = field(default_factory=dict)

    @classmethod
    def begin(cls, ticket: Ticket, plan: Plan, results: Results, crash_window: int) -> Active:
        """Start or resume a job: what is published is done, what a crash interrupted is suspect.

        `crash_window`: so many images count as interrupted when a crash left a running job without a note of them.
        """
        tries = Tries.of(ticket.path)
        done = results.published(plan)
        active = cls(ticket, plan, results, tries)
        active.outcomes = {number: Outcome(number, "done") for number in sorted(done)}
        active.suspects = set(tries.lost) - done
        active.fresh = [
            image.number for image in plan.images if image.number not in done and image.number not in tries.lost
        ]
        heapq.heapify(active.fresh)
        # The worker that held them is gone.
        interrupted, tries.handed = tries.handed - done, set()
        if crash_window:
            held = interrupted if tries.noted else set(active.fresh[:crash_window])
            active.lose(held, "the daemon or the machine stopped while it was rendered", INTERRUPTION)
        return active

    @property
    def id(self) -> str:
        return self.ticket.id

    @property
    def order(self) -> tuple[int, int]:
        return (-self.plan.priority, self.ticket.sequence)

    @property
    def held(self) -> set[int]:
        """The images that the worker has."""
        return self.tries.handed

    @property
    def is_finished(self) -> bool:
        return len(self.outcomes) == len(self.plan.images)

    @property
    def pending(self) -> int:
        return len(self.plan.images) - len(self.outcomes)

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for _, outcome in sorted(self.outcomes.items()) if outcome.state == "failed"]

    def end(self, outcome: Outcome) -> bool:
        """An image is published or failed for good. False when that was known."""
        self.tries.settle(outcome.number)
        self.suspects.discard(outcome.number)
        if outcome.number in self.outcomes or not 1 <= outcome.number <= len(self.plan.images):
            return False
        self.outcomes[outcome.number] = outcome
        return True

    def lose(self, images: Iterable[int], reason: str, cost: float = CRASH) -> None:
        """These tries ended badly: they become suspects."""
        images = set(images) - self.outcomes.keys()
        if not images:
            return
        self.tries.lose(images, cost)
        self.suspects |= images
        self.fresh = [number for number in self.fresh if number not in images]
        heapq.heapify(self.fresh)
        for number in images:
            self.reasons[number] = reason

    def give_up(self, attempts: int) -> list[Outcome]:
        """The suspects whose tries are used up; they have failed now."""
        ended = []
        for number in sorted(self.suspects):
            if self.tries.lost.get(number, 0.0) >= attempts:
                reason = self.reasons.get(number, "the renderer died over it")
                ended.append(Outcome(number, "failed", error=f"{reason}; all of its {attempts} tries are used up"))
        for outcome in ended:
            self.end(outcome)
        return ended

    def take_back(self) -> None:
        """The worker gives back what it holds, without fault."""
        for number in self.held - self.outcomes.keys():
            if number in self.tries.lost:
                self.suspects.add(number)
            else:
                heapq.heappush(self.fresh, number)
        self.tries.release()

    def next_suspect(self, now: float) -> tuple[float, int] | None:
        """The suspect with the fewest lost tries that may be tried now: how many it lost, and its number."""
        ready = [number for number in self.suspects - self.held if self.not_before.get(number, 0.0) <= now]
        return min(((self.tries.lost.get(number, 0.0), number) for number in ready), default=None)


@dataclass(frozen=True)
class Handout:
    """Images of one job for the worker."""

    job: Active
    images: tuple[int, ...]
    #: They share no forward with others.
    alone: bool = False


@dataclass
class Board:
    """All running jobs of one renderer. `window`: images that it may hold at once."""

    window: int
    jobs: dict[str, Active] = field(default_factory=dict)
    #: The worker has an image that must stay alone.
    alone: bool = False

    def add(self, job: Active) -> None:
        self.jobs[job.id] = job

    def remove(self, job_id: str) -> Active | None:
        return self.jobs.pop(job_id, None)

    def by_path(self, path: Path) -> Active | None:
        return next((job for job in self.jobs.values() if job.ticket.path == path), None)

    @property
    def held(self) -> int:
        return sum(len(job.held) for job in self.jobs.values())

    @property
    def pending(self) -> int:
        return sum(job.pending for job in self.jobs.values())

    def in_order(self) -> list[Active]:
        return sorted(self.jobs.values(), key=lambda job: job.order)

    def room(self, order: tuple[int, int], now: float) -> int:
        """How many images of a job with this order the window can take; at most 0 while others come first."""
        before = [job for job in self.jobs.values() if job.order <= order]
        if self.alone or any(job.next_suspect(now) is not None for job in before):
            return 0
        return self.window - self.held - sum(len(job.fresh) for job in before)

    def handouts(self, now: float) -> Iterator[Handout]:
        """What the worker gets now, each noted on disk before it is given. Raises OSError when it cannot be."""
        if self.held == 0:
            self.alone = False
        for job in self.in_order():
            if self.alone:
                return
            yield from self._fresh_of(job)
            if not job.fresh and job.next_suspect(now) is not None:
                # The suspects of an older job go before the images of a younger one: let the window run empty.
                if self.held == 0:
                    yield self._suspect(now)
                return

    def next_time(self) -> float:
        """When a suspect's pause ends; infinity when none has one."""
        if self.held:
            return float("inf")
        return min(
            (time for job in self.jobs.values() for number, time in job.not_before.items() if number in job.suspects),
            default=float("inf"),
        )

    def _fresh_of(self, job: Active) -> Iterator[Handout]:
        count = min(self.window - self.held, len(job.fresh))
        if count > 0:
            images = tuple(heapq.nsmallest(count, job.fresh))
            job.tries.hand(images)
            for _ in images:
                heapq.heappop(job.fresh)
            yield Handout(job, images)

    def _suspect(self, now: float) -> Handout:
        """The suspect of any job that lost the fewest tries: one that is only unlucky is not tried until it fails."""
        ready = [(suspect, job) for job in self.in_order() if (suspect := job.next_suspect(now)) is not None]
        (_, number), job = min(ready, key=lambda pair: pair[0][0])
        job.tries.hand([number])
        self.alone = True
        return Handout(job, (number,), alone=True)

    def release(self) -> None:
        """The worker is gone without fault: nothing is held any more."""
        self.alone = False
        for job in self.jobs.values():
            job.take_back()

    def lose(self, reason: str, cost: float = CRASH) -> list[Active]:
        """The worker died: what it held lost a try, or a part of one. The jobs that this touched."""
        self.alone = False
        touched = [job for job in self.jobs.values() if job.held]
        for job in touched:
            job.lose(set(job.held), reason, cost)
        return touched
