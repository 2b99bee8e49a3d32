"""What the tests of the engine share: tiny models on disk, and in memory as they are loaded here and by diffusers."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import DiffusionPipeline

from invokeai_daemon.engine.decode import decode
from invokeai_daemon.engine.denoise import denoise_step
from invokeai_daemon.engine.lanes import Lane, start_lane, texts_of
from invokeai_daemon.engine.loading import pipelines
from invokeai_daemon.engine.loading.pipeline import Pipeline, load_pipeline
from invokeai_daemon.engine.scheduling.schedulers import class_of
from invokeai_daemon.job.plan import Image, ModelRef
from invokeai_daemon.job.schedulers import BY_NAME
from tests.engine.build import build_model, build_refiner, build_sdxl, image

Pixels = npt.NDArray[np.uint8]
CPU = torch.device("cpu")
#: What loading ends with, for the tests that are about it.
SETTLE_GARBAGE = pipelines._settle_garbage


def pytest_configure(config: pytest.Config) -> None:
    # diffusers' schedulers pass torch tensors to numpy in ways that numpy will stop to take some day.
    config.addinivalue_line("filterwarnings", "ignore:__array_:DeprecationWarning")
    # torchsde rounds the ends of a path, and diffusers then asks for levels just beyond them.
    config.addinivalue_line("filterwarnings", "ignore:Should have t:UserWarning")


def pytest_collection_finish() -> None:
    """What was imported is no garbage: a walk through it takes longer than most of these tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def unsettled() -> Iterator[None]:
    """Nor does loading a model walk through all that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipelines, "_settle_garbage", lambda: None)
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return build_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def pipeline(model: ModelRef) -> Pipeline:
    return load_pipeline(model, CPU, "float32", cores=2)


@pytest.fixture(scope="session")
def plain(model: ModelRef) -> Any:
    """diffusers' own pipeline over the same weights."""
    return load_plainly(model)


@pytest.fixture(scope="session")
def xl_model(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return build_sdxl(tmp_path_factory.mktemp("models") / "tiny-xl")


@pytest.fixture(scope="session")
def xl(xl_model: ModelRef) -> Pipeline:
    return load_pipeline(xl_model, CPU, "float32", cores=2)


@pytest.fixture(scope="session")
def plain_xl(xl_model: ModelRef) -> Any:
    return load_plainly(xl_model)


@pytest.fixture(scope="session")
def refiner(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return load_pipeline(build_refiner(tmp_path_factory.mktemp("models") / "refiner"), CPU, "float32", cores=2)


@pytest.fixture(scope="session")
def plain_refiner(refiner: Pipeline) -> Any:
    return load_plainly(refiner.model)


def load_plainly(model: ModelRef) -> Any:
    """diffusers' own pipeline of the folder of a model."""
    loaded = DiffusionPipeline.from_pretrained(model.path, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    # A scheduler passes on the options it was made with, so each must be made from the model's own.
    loaded.own_scheduler = loaded.scheduler
    return loaded


def render_plainly(plain: Any, wanted: Image, **words: Any) -> Pixels:
    """The picture of an image as diffusers' own pipeline makes it."""
    known = BY_NAME[wanted.scheduler]
    plain.scheduler = class_of(known).from_config(plain.own_scheduler.config, **known.options)
    if hasattr(plain.scheduler, "noise_sampler_seed"):
        plain.scheduler.noise_sampler_seed = wanted.seed
    common = {
        "negative_prompt": wanted.negative_prompt,
        "width": wanted.width,
        "height": wanted.height,
        "num_inference_steps": wanted.steps,
        "guidance_scale": wanted.cfg_scale,
        "generator": torch.Generator("cpu").manual_seed(wanted.seed),
    }
    return np.asarray(plain(wanted.prompt, **{**common, **words}).images[0])


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


VARIED = [
    image(1, steps=4),
    image(2, steps=7, scheduler="dpmpp_2m_k", prompt="a green square", negative_prompt="red"),
    image(3, steps=3, scheduler="euler_a", cfg_scale=1.0),
    image(4, steps=5, scheduler="heun", cfg_scale=3.0, prompt="a yellow star"),
    image(5, steps=6, scheduler="lms_k", prompt=""),
    image(6, steps=2, scheduler="dpmpp_2m_sde", prompt="a black cross", seed=2**32 - 1),
]


def render_staggered(pipeline: Pipeline) -> tuple[list[Pixels], list[int]]:
    """The varied images, a new one joining before every step; and how many shared each forward."""
    waiting, going, shared = start_lanes(pipeline, VARIED), [], []
    lanes = list(waiting)
    while waiting or going:
        going += [waiting.pop(0)] if waiting else []
        denoise_step(going)
        shared.append(len(going))
        going = [lane for lane in going if not lane.is_done]
    return [picture.pixels for picture in decode(lanes)], shared
