"""Stock: what is loaded on a device, and how much of the device's memory images may take. Kept by the renderer.

Whatever an image needs is fetched here; when memory runs out over it, something is given up, or the next rung is tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from invokeai_daemon.engine.backlog import Work
from invokeai_daemon.engine.controls.attaching import attach
from invokeai_daemon.engine.controls.forward import Attached
from invokeai_daemon.engine.denoise import lane_limit
from invokeai_daemon.engine.faults import is_out_of_memory
from invokeai_daemon.engine.loading.memory import Doing, Easing, Memory
from invokeai_daemon.engine.loading.other_vaes import OtherVae, other_vae
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.loading.pipelines import Kept, Pipelines
from invokeai_daemon.engine.passes import Desk
from invokeai_daemon.engine.rendering import Rendering
from invokeai_daemon.job.plan import Image, ModelRef
from invokeai_daemon.settings import RenderSettings

T = TypeVar("T")


class Stock:
    """The models in memory and the rungs that images need."""

    def __init__(
        self,
        settings: RenderSettings,
        device: torch.device,
        cores: int,
        say: Callable[[dict[str, Any]], None],
        in_use: Callable[[], set[Kept]],
        memory_file: Path | None,
    ) -> None:
        """`in_use` says what must be kept; `memory_file` is where the rungs are remembered, if anywhere."""
        self.settings, self.say, self.in_use = settings, say, in_use
        self.pipelines = Pipelines(settings, device, cores)
        self.memory = Memory(memory_file, {"device": device_name(device), "bytes": self.pipelines.capacity})

    def desk(self, work: Work) -> Desk:
        """What the mode of an image works with. Raises what loading raises."""
        plan = work.ticket.plan
        pipeline = self.pipeline(plan.model, work.image)
        other, is_tiled = self.other_vae(work, pipeline), self.easing(work).tiled
        return Desk(plan, work.ticket.folder, pipeline, other, is_tiled)

    def pipeline(self, model: ModelRef, image: Image) -> Pipeline:
        """The pipeline of a model as it fits for an image. Raises what loading raises."""
        started, was_loaded = time.monotonic(), self.pipelines.has(model)
        loading = partial(self.say, {"event": "loading", "model": model.name})
        streamed = self.memory.easing(model, image).streamed
        pipeline = self.pipelines.get(model, self.in_use(), loading, streamed)
        if not was_loaded:
            seconds = round(time.monotonic() - started, 3)
            self.say({"event": "loaded", "model": model.name, "seconds": seconds})
        return pipeline

    def other_vae(self, work: Work, pipeline: Pipeline) -> OtherVae | None:
        """The VAE that an image names instead of its model's own. Raises what loading raises."""
        if work.image.vae is None:
            return None
        model = work.ticket.plan.reference("vae", work.image.vae)
        return self.eased(work, "load", lambda: other_vae(self.pipelines, model, pipeline, self.in_use()))

    def attached(self, one: Rendering) -> Attached:
        """What the controls of an image are to its current pass. Raises what loading raises."""
        ticket, pipeline = one.work.ticket, one.pipeline
        desk = Desk(ticket.plan, ticket.folder, pipeline)
        make = partial(attach, self.pipelines, self.in_use(), desk, pipeline, one.current.image)
        return self.eased(one.work, "load", make, one.model)

    def easing(self, work: Work, model: ModelRef | None = None) -> Easing:
        """How an image is rendered with a model, or with its job's own, so that it fits."""
        return self.memory.easing(model or work.ticket.plan.model, work.image)

    def eased(self, work: Work, doing: Doing, act: Callable[[], T], model: ModelRef | None = None) -> T:
        """What an act for an image gives, tried again with less memory as long as there is a way.

        `model` is the one that memory ran out over; None for the job's own.
        """
        while True:
            try:
                return act()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                # What its frames hold would not be freed.
                failure = error.with_traceback(None)
            if not self.ease(work, doing, model=model):
                raise failure

    def ease(self, work: Work, doing: Doing, lanes: int = 1, model: ModelRef | None = None) -> bool:
        """Let the next try take less memory, see `eased`. False when nothing is left to try."""
        if self.pipelines.give_up_others(self.in_use()):
            return True
        return self.memory.climb(model or work.ticket.plan.model, work.image, doing, lanes)

    def words(self, one: Rendering) -> list[str]:
        """What was done so that an image fits."""
        easing = self.easing(one.work)
        return replace(easing, streamed=max(easing.streamed, one.pipeline.streamed)).words

    def limit(self, work: Work, model: ModelRef | None = None) -> int:
        """How many images like this one may share a forward of a model, or of the job's own."""
        pipeline = self.pipelines.peek(model or work.ticket.plan.model)
        if pipeline is None or work.alone:
            return 1
        most = self.easing(work, model).lanes or self.settings.max_lanes
        return lane_limit(pipeline, work.image.width, work.image.height, most)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
