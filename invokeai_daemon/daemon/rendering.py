"""Rendering: gives the renderer its images and hears how they end. Called by the loop.

The renderer publishes images itself; what it says is written down here, and what it leaves unsaid when it dies is read
from the disk. A death costs one try of the images it held.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from invokeai_daemon import files
from invokeai_daemon.daemon.active import CRASH, INTERRUPTION, Active, Board, Handout
from invokeai_daemon.daemon.jobs import Jobs
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.room import DiskRoom
from invokeai_daemon.daemon.supervise import Death, Worker
from invokeai_daemon.daemon.thumbnails import Thumbnails
from invokeai_daemon.output.results import Outcome
from invokeai_daemon.settings import LimitSettings
from invokeai_daemon.workers.protocol import Message

#: Pauses between tries of an image that failed for a reason that may pass, in seconds.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
_NO_ROOM = ("No space left", "Disk quota exceeded", "ENOSPC", "EDQUOT")


@dataclass
class Current:
    """What the renderer does now, for the status."""

    job: str
    image: int
    step: int
    steps: int
    #: Monotonic time of the last step that was told.
    told: float
    #: Seconds a step takes, smoothed; None before the second one.
    pace: float | None = None


class Rendering:
    """The renderer of one device and what it holds."""

    def __init__(
        self,
        worker: Worker,
        board: Board,
        jobs: Jobs,
        limits: LimitSettings,
        room: DiskRoom,
        thumbnails: Thumbnails,
    ) -> None:
        self.worker, self.board, self.jobs, self.limits, self.room = worker, board, jobs, limits, room
        self.thumbnails = thumbnails
        #: Images published since the start of the daemon.
        self.published = 0
        self._current: Current | None = None
        self._loading = ""
        self._deaths_loading: dict[str, int] = {}

    def listen(self, now: float) -> None:
        """Hear what the renderer says; record what ended; take its death into account."""
        said, death = self.worker.listen(now)
        for message in said:
            self.take(message, now)
        if death is not None:
            self._mourn(death)

    def tell_cancelled(self) -> None:
        """Let the renderer drop the jobs whose files the user removed."""
        for job_id in self.jobs.cancelled:
            self.worker.send({"order": "cancel", "job": job_id})
        self.jobs.cancelled.clear()

    def hand_out(self, now: float) -> None:
        """Give a listening renderer the images that come next."""
        try:
            for handout in self.board.handouts(now):
                self.worker.send(_order(handout))
        except OSError as error:
            self.room.doubt()
            events.warning("tries.not_written", path=error.filename, reason=error.strerror)

    def next_time(self) -> float:
        return min(self.worker.next_time(), self.board.next_time() if self.worker.is_ready else math.inf)

    def current(self) -> dict[str, Any] | None:
        """`job image of step steps eta_s` of the image that was heard of last; None when nothing is rendered."""
        current = self._current
        job = self.board.jobs.get(current.job) if current else None
        if current is None or job is None:
            return None
        rounds = math.ceil(job.pending / max(1, len(job.held)))
        steps_left = current.steps - current.step + max(0, rounds - 1) * current.steps
        return {
            "job": current.job,
            "image": current.image,
            "of": len(job.plan.images),
            "step": current.step,
            "steps": current.steps,
            "eta_s": None if current.pace is None else round(current.pace * steps_left, 1),
        }

    def hear_last(self, now: float) -> None:
        """Hear a renderer that was asked to stop: its end is no death."""
        for message in self.worker.listen(now)[0]:
            self.take(message, now)

    def stop(self) -> None:
        """The renderer has ended because we asked: read what it still said, and count nothing against its images."""
        for job in list(self.board.jobs.values()):
            self._note_published(job)
        self.board.release()
        self.thumbnails.release()

    # -- events ----------------------------------------------------------------------------------------------------

    def take(self, message: Message, now: float) -> None:
        """One event of the renderer. One that lacks what it must say is left out, and the log says so."""
        try:
            if not self.thumbnails.take(message):
                self._take(message, now)
        except (KeyError, TypeError, ValueError) as error:
            events.error("worker.misspoke", worker="renderer", message=message, reason=repr(error))

    def _take(self, message: Message, now: float) -> None:
        match message.get("event"):
            case "step":
                self._take_step(message, now)
            case "published":
                self._take_published(message)
            case "image_failed":
                self._take_failure(message, now)
            case "loading":
                self._loading = str(message.get("model", ""))
            case "loaded":
                self._deaths_loading.pop(self._loading, None)
                self._loading = ""
                events.info("model.loaded", model=message.get("model"), seconds=message.get("seconds"))

    def _take_step(self, message: Message, now: float) -> None:
        before = self._current
        current = Current(message["job"], message["image"], message["step"], message["steps"], now)
        if before is not None and (before.job, before.image) == (current.job, current.image):
            taken = (now - before.told) / max(1, current.step - before.step)
            current.pace = taken if before.pace is None else 0.7 * before.pace + 0.3 * taken
        elif before is not None:
            current.pace = before.pace
        self._current = current

    def _take_published(self, message: Message) -> None:
        job = self.board.jobs.get(message["job"])
        self.worker.achieved()
        if job is None:
            return
        outcome = Outcome(
            message["image"],
            "done",
            message.get("seconds"),
            tuple(message.get("warnings", ())),
            memory=tuple(message.get("memory", ())),
            tokenization=message.get("tokenization"),
        )
        if job.end(outcome):
            self.published += 1
            events.debug("image.published", job=job.id, image=message["image"], file=message.get("file"))
            for key, prompts in (outcome.tokenization or {}).items():
                for each in prompts:
                    tokens = "|".join(each["tokens"])
                    events.info("prompt.tokens", job=job.id, image=outcome.number, key=key, tokens=tokens)
        self._end_if_finished(job)

    def _take_failure(self, message: Message, now: float) -> None:
        job = self.board.jobs.get(message["job"])
        if job is None:
            return
        number, error = message["image"], str(message.get("error", "no reason was given"))
        events.warning("image.failed", job=job.id, image=number, error=error, temporary=bool(message.get("temporary")))
        if not message.get("temporary"):
            job.end(Outcome(number, "failed", error=error))
        elif self._is_about_room(error):
            self.worker.send({"order": "cancel", "job": job.id})
            self.jobs.wait_for_room(job)
            return
        else:
            job.lose([number], error)
            pause = FIRST_PAUSE * 2 ** (job.tries.lost[number] - CRASH)
            job.not_before[number] = now + min(LONGEST_PAUSE, pause)
            job.give_up(self.limits.attempts)
        self._end_if_finished(job)

    def _is_about_room(self, error: str) -> bool:
        if any(text in error for text in _NO_ROOM):
            self.room.doubt()
        return self.room.is_low

    def _end_if_finished(self, job: Active) -> None:
        if job.is_finished and job.id in self.board.jobs:
            self.jobs.end(job)

    # -- death -----------------------------------------------------------------------------------------------------

    def _mourn(self, death: Death) -> None:
        self.thumbnails.mourn(death)
        for job in list(self.board.jobs.values()):
            self._note_published(job)
        reason = f"the renderer was ended while it rendered this: {death}" if death.is_foreign else None
        cost = INTERRUPTION if death.is_foreign else CRASH
        touched = self.board.lose(reason or f"the renderer died over it: {death}", cost)
        for job in touched:
            for outcome in job.give_up(self.limits.attempts):
                events.warning("image.failed", job=job.id, image=outcome.number, error=outcome.error)
        # Nobody writes there now: what the worker left half written goes.
        files.remove_leftovers(job.results.folder for job in touched)
        if self._loading:
            self._blame_model(self._loading, death)
        for job in touched:
            self._end_if_finished(job)
        self._current, self._loading = None, ""

    def _note_published(self, job: Active) -> None:
        """What appeared on disk though nobody said so."""
        if job.held:
            for number in job.results.published(job.plan) & job.held:
                self.published += job.end(Outcome(number, "done"))
            self._end_if_finished(job)

    def _blame_model(self, model: str, death: Death) -> None:
        """A model that kills the renderer every time it is loaded fails its jobs, instead of each of their images."""
        count = self._deaths_loading[model] = self._deaths_loading.get(model, 0) + 1
        if count < self.limits.attempts:
            return
        self._deaths_loading[model] = self.limits.attempts - 1
        error = f"the renderer died {count} times while it loaded the model {model}: {death}"
        for job in [job for job in self.board.jobs.values() if job.plan.model.name == model]:
            for image in job.plan.images:
                job.end(Outcome(image.number, "failed", error=error))
            self._end_if_finished(job)


def _order(handout: Handout) -> Message:
    """The order for a handout: its plan holds these images only."""
    plan = handout.job.plan
    images = tuple(plan.images[number - 1] for number in handout.images)
    return {
        "order": "render",
        "plan": replace(plan, images=images).as_json(),
        "images": list(handout.images),
        "folder": str(handout.job.results.folder),
        "alone": handout.alone,
    }
