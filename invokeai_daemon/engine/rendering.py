"""Rendering: one image on its way, from its first pass to its file. Kept by the renderer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from invokeai_daemon.engine.backlog import Work
from invokeai_daemon.engine.decode import Picture
from invokeai_daemon.engine.lanes import Lane
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.loras import Outfit, worn_by
from invokeai_daemon.engine.passes import Mode, Pass, Passed
from invokeai_daemon.job.plan import ModelRef


@dataclass(eq=False)
class Rendering:
    """One image on its way."""

    work: Work
    mode: Mode
    #: The pass that is asked for or made.
    current: Pass
    #: Monotonic seconds.
    started: float = field(default_factory=time.monotonic)
    #: Its last word; None before.
    picture: Picture | None = None
    #: Evaluations of denoisers in the passes before the current one.
    before: int = 0
    #: For a picture of a step, the number of that step from 0.
    step: int | None = None
    _lane: Lane | None = None

    @classmethod
    def begun(cls, work: Work, mode: Mode) -> Rendering:
        """An image that asks for its first pass. Raises what the mode raises."""
        return cls(work, mode, next(mode))

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
    def is_cancelled(self) -> bool:
        return self.work.ticket.is_cancelled

    def goes_on(self, passed: Passed) -> bool:
        """Whether the image asks for another pass, which is then the current one; else its picture is there."""
        self.before += self.lane.index
        try:
            self.current = self.mode.send(passed)
        except StopIteration as end:
            self.picture = end.value
            return False
        return True

    def of_step(self) -> Rendering:
        """What shows the step that was just made. Its lane goes no further, and has the same list of warnings."""
        assert self.lane.expected is not None
        shown = replace(self.lane, latents=self.lane.expected)
        step = self.before + self.lane.index - 1
        return Rendering(self.work, self.mode, self.current, step=step, _lane=shown)
