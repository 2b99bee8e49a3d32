"""A small model with control models and pictures, and images rendered with them as the renderer does."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Pillow

from invokeai_daemon.engine.beginning import FROM_NOISE, Beginning
from invokeai_daemon.engine.controls.attaching import attach
from invokeai_daemon.engine.decode import decode
from invokeai_daemon.engine.denoise import denoise_step, pick
from invokeai_daemon.engine.lanes import Lane, start_lane, texts_of
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.loading.pipelines import Pipelines
from invokeai_daemon.engine.passes import Desk
from invokeai_daemon.job.plan import Image, Input, ModelRef, Plan
from invokeai_daemon.settings import RenderSettings
from tests.engine.conftest import Pixels


class Studio:
    """One model, what is used with it, and the pictures that jobs name."""

    def __init__(self, folder: Path, pipeline: Pipeline, plain: Any) -> None:
        self.folder, self.pipeline = folder, pipeline
        #: diffusers' own pipeline over the same weights.
        self.plain = plain
        self.pipelines = Pipelines(RenderSettings(cache_gb=4), torch.device("cpu"), cores=2)
        self.plan = Plan("studio", pipeline.model, ())

    def add(self, *references: ModelRef) -> None:
        base = self.plan.model.base
        ours = (each if each.base == "any" else replace(each, base=base) for each in references)
        self.plan = replace(self.plan, references=(*self.plan.references, *ours))

    def put(self, name: str, picture: Pillow.Image) -> None:
        picture.save(self.folder / name)
        self.plan = replace(self.plan, inputs=(*self.plan.inputs, Input(name, name, "sha256:")))

    @property
    def desk(self) -> Desk:
        return Desk(self.plan, self.folder, self.pipeline)

    def as_plain(self, kind: Any, **parts: Any) -> Any:
        """diffusers' pipeline of another class with the parts of this one."""
        taken = inspect.signature(kind).parameters
        own = {name: part for name, part in self.plain.components.items() if name in taken}
        words = {"requires_safety_checker": False} if "safety_checker" in taken else {}
        made = kind(**{**own, **parts}, **words)
        made.set_progress_bar_config(disable=True)
        made.own_scheduler = self.plain.own_scheduler
        return made

    def lanes(self, images: Sequence[Image], beginning: Beginning = FROM_NOISE) -> list[Lane]:
        encoded = self.pipeline.prompts.encode(text for image in images for text in texts_of(image))
        lanes = [start_lane(self.pipeline, image, encoded, beginning=beginning) for image in images]
        for lane in lanes:
            lane.attached = attach(self.pipelines, (), self.desk, self.pipeline, lane.image)
        return lanes

    def render(self, images: Sequence[Image], beginning: Beginning = FROM_NOISE) -> list[Pixels]:
        """The pictures of images that start together and share every forward they may."""
        return self.finish(self.lanes(images, beginning))

    def finish(self, lanes: Sequence[Lane]) -> list[Pixels]:
        while going := [lane for lane in lanes if not lane.is_done]:
            assert not denoise_step(pick(going))
        return [picture.pixels for lane in lanes for picture in decode([lane])]
