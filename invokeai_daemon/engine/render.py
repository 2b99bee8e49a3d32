"""Render: the loop over lanes. Waiting images become lanes, lanes step together, finished lanes become pictures.

Called by the renderer process, which feeds it tickets and passes its events on. Knows no pipes and no protocol.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch

from invokeai_daemon.engine.backlog import Backlog, Ticket, Work
from invokeai_daemon.engine.denoise import denoise_step, pick
from invokeai_daemon.engine.faults import PoisonedDeviceError, explained, is_out_of_memory, raise_if_poisoned
from invokeai_daemon.engine.lanes import encode_texts, start_lane
from invokeai_daemon.engine.loading.memory import Streamed
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.loading.pipelines import Kept
from invokeai_daemon.engine.loading.stock import Stock, device_name
from invokeai_daemon.engine.loras import Outfit
from invokeai_daemon.engine.passes import Passed
from invokeai_daemon.engine.rendering import Rendering
from invokeai_daemon.engine.showing import Showing
from invokeai_daemon.job.plan import Image, ModelRef
from invokeai_daemon.output.metadata import versions
from invokeai_daemon.settings import Settings

#: Seconds between two `step` events.
STEP_EVENT_INTERVAL = 0.25
#: Seconds that the loop waits for a picture of which another pass may come, when there is nothing else to do.
BETWEEN_PATIENCE = 0.1

Say = Callable[[dict[str, Any]], None]


class Renderer:
    """All that is being rendered on one device. `say` gets the events and may be called from several threads."""

    def __init__(
        self, settings: Settings, device: torch.device, cores: int, say: Say, memory_file: Path | None = None
    ) -> None:
        """`memory_file` is where it is kept what models need on this device, if anywhere."""
        self.say = say
        self.backlog = Backlog()
        self.running: list[Rendering] = []
        #: Images whose next pass is asked for, from the decoding thread; and those of which that may still come.
        self._asking: queue.SimpleQueue[Rendering] = queue.SimpleQueue()
        self._between: set[Rendering] = set()
        #: Images that get lanes just now.
        self._beginning: list[Rendering] = []
        self._tickets: WeakSet[Ticket] = WeakSet()
        self._last_step_event = 0.0
        #: Set by a thread that met a `PoisonedDeviceError`.
        self._poison: PoisonedDeviceError | None = None
        self.stock = Stock(settings.render, device, cores, say, self._in_use, memory_file)
        made_with = {**versions(), "device": device_name(device)}
        self.showing = Showing(settings.output, self.stock, made_with, say, self._go_on, self._lose)

    # What the process asks for

    def add(self, ticket: Ticket, images: Sequence[Image], alone: bool) -> None:
        self._tickets.add(ticket)
        self.backlog.add(ticket, images, alone)

    def cancel(self, job_id: str) -> None:
        """Forget the images of a job; after this none of them appears."""
        with self.showing.appearing:
            for ticket in self._tickets:
                ticket.is_cancelled |= ticket.plan.job_id == job_id
        self.backlog.drop_cancelled()
        self.running = [one for one in self.running if not one.is_cancelled]
        self._between.difference_update([one for one in tuple(self._between) if one.is_cancelled])

    @property
    def is_idle(self) -> bool:
        return not (self.running or len(self.backlog) or self._between)

    def turn(self) -> None:
        """Let waiting images join, then do one denoise step. Raises PoisonedDeviceError."""
        if self._poison is not None:
            raise self._poison
        self._take_up(0 if self.running or len(self.backlog) else BETWEEN_PATIENCE)
        self._fill()
        if self.running:
            self._step(self._together())

    def finish(self) -> None:
        """Publish what is denoised, in bounded time; the rest is abandoned and nothing of it is on disk."""
        self.showing.finish()

    # Waiting images become lanes

    def _fill(self) -> None:
        taken: list[Work] = []
        while (work := self._next_work(taken)) is not None:
            if self._has_pipeline(work):
                taken.append(work)
        if taken:
            self._start(taken)

    def _has_pipeline(self, work: Work) -> bool:
        """Load the image's model if need be. False when the image failed with it."""
        try:
            self.stock.eased(work, "load", lambda: self.stock.pipeline(work.ticket.plan.model, work.image))
        except Exception as error:  # noqa: BLE001  the boundary of one image
            self._fail(work, error)
            return False
        return True

    def _next_work(self, taken: Sequence[Work]) -> Work | None:
        leading = self._leading([*(one.work for one in self.running), *taken])
        if leading is not None and self._count(leading, taken) >= self.stock.limit(leading):
            return None
        return self.backlog.take(leading, lambda work: self.stock.pipelines.has(work.ticket.plan.model))

    @staticmethod
    def _leading(works: Sequence[Work]) -> Work | None:
        """The image whose group is denoised next: the most urgent, then the first to come."""
        return min(works, key=_urgency, default=None)

    def _count(self, leading: Work, taken: Sequence[Work]) -> int:
        works = [*(one.work for one in self.running), *taken]
        return sum(work.group == leading.group for work in works)

    def _in_use(self) -> set[Kept]:
        return {model for one in (*self.running, *self._between, *self._beginning) for model in one.models}

    def _start(self, taken: Sequence[Work]) -> None:
        """Let images of one model ask for their first passes. An image that cannot start fails alone."""
        for work in taken:
            try:
                self._beginning.append(self.stock.eased(work, "vae", partial(self._begun, work)))
            except Exception as error:  # noqa: BLE001  the boundary of one image
                self._fail(work, error)
        self._begin()

    def _begun(self, work: Work) -> Rendering:
        return Rendering.begun(work, self.stock.desk(work))

    def _take_up(self, patience: float) -> None:
        """Begin the passes that images ask for after others; waits so many seconds for the first."""
        asking: list[Rendering] = []
        with contextlib.suppress(queue.Empty):
            if self._between and patience:
                asking.append(self._asking.get(timeout=patience))
            while True:
                asking.append(self._asking.get_nowait())
        self._beginning += [one for one in asking if not one.is_cancelled]
        self._between.difference_update(asking)
        self._begin()

    def _begin(self) -> None:
        """Give images lanes for the passes they ask for, those of one model and the same LoRAs together."""
        alike: dict[tuple[ModelRef, Outfit, Streamed], list[Rendering]] = {}
        for one in self._beginning:
            try:
                # Of one model, a large picture may need it streamed where a small one does not.
                streamed = self.stock.easing(one.work, one.model).streamed
                alike.setdefault((one.model, one.outfit, streamed), []).append(one)
            except Exception as error:  # noqa: BLE001  the boundary of one image
                self._fail(one.work, error)
        for (model, outfit, _), several in alike.items():
            self._begin_with(model, outfit, several)
        self._beginning.clear()

    def _begin_with(self, model: ModelRef, outfit: Outfit, ones: Sequence[Rendering]) -> None:
        first = ones[0].work
        try:
            pipeline = self.stock.eased(first, "load", lambda: self.stock.pipeline(model, first.image), model)
            told = self._told(pipeline, ones)
            encode = partial(encode_texts, pipeline, list(told.values()), outfit)
            encoded = self.stock.eased(first, "load", encode, model)
        except Exception as error:  # noqa: BLE001  the boundary of these images
            for one in ones:
                self._fail(one.work, error)
            return
        for one, image in told.items():
            try:
                alone, beginning = one.work.alone, one.current.beginning
                one.lane = start_lane(pipeline, image, encoded[image.clip_skip], alone, beginning, outfit)
                warnings = map(pipeline.prompts.readable, one.lane.warnings)
                one.lane.warnings[:] = [*one.work.ticket.plan.warnings, *warnings]
                one.lane.attached = self.stock.attached(one)
                one.lane.other_vae = self.stock.other_vae(one.work, pipeline)
                if one.lane.is_done:
                    # Of an init image nothing is to be made anew.
                    self._end_pass(one)
                else:
                    self.running.append(one)
            except Exception as error:  # noqa: BLE001  the boundary of one image
                self._fail(one.work, error)

    def _told(self, pipeline: Pipeline, ones: Sequence[Rendering]) -> dict[Rendering, Image]:
        """What the images of passes ask for, with the embeddings that their prompts name in place."""
        told: dict[Rendering, Image] = {}
        for one in ones:
            embeddings = [each for each in one.work.ticket.plan.references if each.type == "embedding"]
            try:
                told[one] = pipeline.prompts.with_embeddings(one.current.image, embeddings)
            except Exception as error:  # noqa: BLE001  the boundary of one image
                self._fail(one.work, error)
        return told

    def _restart_streamed(self) -> None:
        """Images whose model is to be streamed from now on begin anew; nothing of them was published."""
        for one in list(self.running):
            if self.stock.easing(one.work, one.model).streamed > one.lane.pipeline.streamed:
                self.running.remove(one)
                self.backlog.put_back(one.work)

    # Lanes are denoised

    def _together(self) -> list[Rendering]:
        by_lane = {one.lane: one for one in sorted(self.running, key=lambda one: _urgency(one.work))}
        together = [by_lane[lane] for lane in pick(list(by_lane))]
        return together[: self.stock.limit(together[0].work, together[0].model)]

    def _step(self, together: list[Rendering]) -> None:
        for one in together:
            one.lane.is_sequential = self.stock.easing(one.work, one.model).sequential
        try:
            failed = denoise_step([one.lane for one in together])
        except Exception as error:  # noqa: BLE001  the boundary of these images
            self._handle_failed_forward(together, error)
            return
        for one in together:
            if one.lane in failed:
                self.running.remove(one)
                self._fail(one.work, failed[one.lane])
                continue
            if one.lane.expected is not None:
                self.showing.decode(one.of_step())
            if one.lane.is_done:
                self.running.remove(one)
                self._end_pass(one)
        self._tell_step(together[0])

    def _end_pass(self, one: Rendering) -> None:
        if one.current.then == "picture":
            self._between.add(one)
        if one.current.then == "latents":
            self._go_on(one, Passed(one.lane.latents))
        else:
            self.showing.decode(one)

    def _go_on(self, one: Rendering, passed: Passed) -> None:
        """Let the mode say what is next: another pass, or the picture. Called by both threads."""
        try:
            has_more = one.goes_on(passed)
        except Exception as error:  # noqa: BLE001  the boundary of one image
            if is_out_of_memory(error):
                # Its mode cannot be asked again, so this is for the image's next try.
                self.stock.memory.climb(one.work.ticket.plan.model, one.work.image, "vae")
            self._lose(one, error)
            return
        if has_more:
            self._between.add(one)
            self._asking.put(one)
        else:
            self.showing.publish(one)
            self._between.discard(one)

    def _handle_failed_forward(self, together: list[Rendering], error: Exception) -> None:
        """Out of memory: easier from now on. Anything else: a forward for each finds the image at fault."""
        raise_if_poisoned(error)
        work = together[0].work
        if is_out_of_memory(error):
            failure = error.with_traceback(None)
            if self.stock.ease(work, "denoise", len(together), together[0].model):
                self._restart_streamed()
                return
            error = failure
        if len(together) > 1:
            for one in together:
                one.lane.alone = True
        else:
            self.running.remove(together[0])
            self._fail(work, error)

    def _tell_step(self, one: Rendering) -> None:
        now = time.monotonic()
        if now - self._last_step_event < STEP_EVENT_INTERVAL:
            return
        self._last_step_event = now
        place = {"job": one.work.ticket.plan.job_id, "image": one.work.image.number}
        self.say({"event": "step", **place, "step": one.lane.step, "steps": one.current.image.steps})

    def _lose(self, one: Rendering, error: Exception) -> None:
        """An image failed after its last step. Called by both threads."""
        self._between.discard(one)
        self._fail(one.work, error)

    def _fail(self, work: Work, error: Exception) -> None:
        """One image failed; the others go on. Of a poisoned device it is the end, at the next turn."""
        try:
            raise_if_poisoned(error)
        except PoisonedDeviceError as poison:
            self._poison = poison
            return
        if work.ticket.is_cancelled:
            return
        sentence, is_temporary = explained(error)
        place = {"job": work.ticket.plan.job_id, "image": work.image.number}
        self.say({"event": "image_failed", **place, "error": sentence, "temporary": is_temporary})


def _urgency(work: Work) -> tuple[int, int]:
    """Less is more urgent."""
    return -work.priority, work.arrival
