"""Rendering: one image on its way, from its first pass to its file. Kept by the renderer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

from invokeai_daemon.engine.backlog import Work
from invokeai_daemon.engine.decode import Picture
from invokeai_daemon.engine.lanes import Lane
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.loading.pipelines import Kept
from invokeai_daemon.engine.loras import Outfit, worn_by
from invokeai_daemon.engine.modes import mode_of
from invokeai_daemon.engine.passes import Desk, Mode, Pass, Passed
from invokeai_daemon.job.plan import ModelRef


@dataclass(eq=False)
class Rendering:
    """One image on its way."""

    work: Work
    mode: Mode
    #: The pass that is asked for or made.
    current: Pass
    #: What its mode works with, and holds on to as long as it is on its way.
    desk: Desk
    #: Monotonic seconds.
    started: float = field(default_factory=time.monotonic)
    #: Its last word; None before.
    picture: Picture | None = None
    #: Evaluations of denoisers in the passes before the current one.
    before: int = 0
    #: For a picture of a step, the number of that step from 0.
    step: int | None = None
    #: Warnings of the passes before, of which nobody saw a picture.
    earlier: list[list[str]] = field(default_factory=list)
    _lane: Lane | None = None

    @classmethod
    def begun(cls, work: Work, desk: Desk) -> Rendering:
        """An image that asks for its first pass. Raises what its mode raises."""
        mode = mode_of(work.image, work.ticket.plan.model)(desk, work.image)
        return cls(work, mode, next(mode), desk)

    @property
    def lane(self) -> Lane:
        """The lane of the current pass, once it was begun."""
        assert self._lane is not None
        return self._lane

    @lane.setter
    def lane(self, lane: Lane) -> None:
        self._lane = lane

    @property
    def pipeline(self) -> Pipeline:
        return self.lane.pipeline

    @property
    def model(self) -> ModelRef:
        """The model that makes the current pass."""
        return self.current.model or self.work.ticket.plan.model

    @property
    def outfit(self) -> Outfit:
        """The LoRAs that its current pass wears. Raises RenderError."""
        return worn_by(self.work.ticket.plan, self.current.image, self.model)

    @property
    def models(self) -> Iterator[Kept]:
        """What must stay in memory for it."""
        yield self.desk.pipeline
        others = [self.desk.other_vae]
        if self._lane is not None:
            yield self._lane.pipeline
            yield from self._lane.attached.models
            others.append(self._lane.other_vae)
        yield from (each for each in others if each is not None)

    @property
    def is_cancelled(self) -> bool:
        return self.work.ticket.is_cancelled

    def goes_on(self, passed: Passed) -> bool:
        """Whether the image asks for another pass, which is then the current one; else its picture is there."""
        self.before += self.lane.index
        if self.current.then == "latents":
            self.earlier.append(self.lane.warnings)
        try:
            self.current = self.mode.send(passed)
        except StopIteration as end:
            made: Picture = end.value
            warnings = dict.fromkeys([*chain(*self.earlier), *made.warnings])
            self.picture = Picture(made.pixels, list(warnings))
            return False
        return True

    def of_step(self) -> Rendering:
        """What shows the step that was just made. Its lane goes no further, and has the same list of warnings."""
        assert self.lane.expected is not None
        shown = replace(self.lane, latents=self.lane.expected)
        step = self.before + self.lane.index - 1
        return Rendering(self.work, self.mode, self.current, self.desk, step=step, _lane=shown)
