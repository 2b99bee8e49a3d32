"""What the tests of the engine share: one tiny model on disk, and that model in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import StableDiffusionPipeline

from invokeai_daemon.engine.decode import decode
from invokeai_daemon.engine.denoise import denoise_step
from invokeai_daemon.engine.lanes import Lane, start_lane, texts_of
from invokeai_daemon.engine.pipeline import Pipeline, load_pipeline
from invokeai_daemon.job.plan import Image, ModelRef
from tests.engine.build import build_model

Pixels = npt.NDArray[np.uint8]


def pytest_configure(config: pytest.Config) -> None:
    # diffusers' schedulers pass torch tensors to numpy in ways that numpy will stop to take some day.
    config.addinivalue_line("filterwarnings", "ignore:__array_:DeprecationWarning")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return build_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def pipeline(model: ModelRef) -> Pipeline:
    return load_pipeline(model, torch.device("cpu"), "float32", cores=2)


@pytest.fixture(scope="session")
def plain(model: ModelRef) -> Any:
    """diffusers' own pipeline over the same weights."""
    loaded = StableDiffusionPipeline.from_pretrained(model.path, safety_checker=None, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    # A scheduler passes on the options it was made with, so each must be made from the model's own.
    loaded.own_scheduler = loaded.scheduler
    return loaded


def start_lanes(pipeline: Pipeline, images: Sequence[Image]) -> list[Lane]:
    encoded = pipeline.prompts.encode(text for image in images for text in texts_of(image))
    return [start_lane(pipeline, image, encoded) for image in images]


def render(pipeline: Pipeline, images: Sequence[Image]) -> list[Pixels]:
    """The pictures of images that start together and share every forward they can."""
    lanes = start_lanes(pipeline, images)
    while going := [lane for lane in lanes if not lane.is_done]:
        assert not denoise_step(going)
    return [picture.pixels for lane in lanes for picture in decode([lane])]


def difference(one: Pixels, other: Pixels) -> int:
    """The largest difference of two values, 0 … 255."""
    return int(np.abs(one.astype(int) - other.astype(int)).max())
