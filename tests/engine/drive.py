"""Modes driven by hand: what the renderer does for one image, without threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import PIL.Image

from invokeai_daemon.engine.decode import Picture, decode
from invokeai_daemon.engine.denoise import denoise_step
from invokeai_daemon.engine.lanes import Lane, start_lane, texts_of
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.modes import mode_of
from invokeai_daemon.engine.passes import Desk, Pass, Passed
from invokeai_daemon.job.plan import Image, Input, ModelRef, Plan


def desk_of(
    pipeline: Pipeline, folder: Path, pictures: Mapping[str, PIL.Image.Image], references: Iterable[ModelRef] = ()
) -> Desk:
    """A desk with some pictures, by the names that images call them."""
    inputs = []
    for asked, picture in pictures.items():
        picture.save(folder / asked)
        inputs.append(Input(asked, asked, ""))
    plan = Plan("job", pipeline.model, (), references=tuple(references), inputs=tuple(inputs))
    return Desk(plan, folder, pipeline)


def begin(pipeline: Pipeline, asked: Pass) -> Lane:
    """The lane of a pass."""
    encoded = pipeline.prompts.encode(texts_of(asked.image))
    return start_lane(pipeline, asked.image, encoded, beginning=asked.beginning)


def first_lane(desk: Desk, image: Image) -> Lane:
    """The lane of an image's first pass."""
    return begin(desk.pipeline, next(mode_of(image, desk.pipeline.model)(desk, image)))


def make(desk: Desk, image: Image, others: Mapping[ModelRef, Pipeline] | None = None) -> tuple[Picture, list[Lane]]:
    """The picture of an image, and the lanes of its passes. `others` are the pipelines of other models it may use."""
    mode, lanes = mode_of(image, desk.pipeline.model)(desk, image), []
    asked = next(mode)
    while True:
        lane = begin((others or {})[asked.model] if asked.model else desk.pipeline, asked)
        while not lane.is_done:
            assert not denoise_step([lane])
        lanes.append(lane)
        try:
            asked = mode.send(Passed(lane.latents, None if asked.then == "latents" else decode([lane])[0]))
        except StopIteration as end:
            return end.value, lanes


def drawn_picture(width: int = 64, height: int = 64, seed: int = 1) -> PIL.Image.Image:
    """A picture with edges, colours and a slope, whatever its size."""
    rows, columns = np.mgrid[0:height, 0:width] / [[[height]], [[width]]]
    inside = (rows - 0.4) ** 2 + (columns - 0.6) ** 2 < 0.06
    values = np.stack([np.where(inside, 0.9, 0.2), columns, np.where(inside, 0.1, rows)], axis=-1)
    values += np.random.default_rng(seed).normal(0, 0.03, values.shape)
    return PIL.Image.fromarray((values.clip(0, 1) * 255).astype(np.uint8))
