"""A model that does not fit is streamed from the disk, and makes the same pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from invokeai_daemon.engine.loading.memory import Streamed
from invokeai_daemon.engine.loading.pipeline import Pipeline, load_pipeline
from invokeai_daemon.engine.loading.pipelines import Pipelines
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.settings import RenderSettings
from tests.engine.build import image
from tests.engine.conftest import render

CPU = torch.device("cpu")


def bits(pipeline: Pipeline) -> list[np.ndarray]:
    return render(pipeline, [image(1), image(2, prompt="a (green)1.3 square", scheduler="heun", clip_skip=0)])


def same(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_streamed_model_makes_the_same_bits_and_holds_no_weights(pipeline: Pipeline, model: ModelRef) -> None:
    streamed = load_pipeline(model, CPU, "float32", cores=2, streamed=Streamed.ALL)
    assert streamed.size < 0.02 * pipeline.size
    assert same(bits(streamed), bits(pipeline))
    assert all(parameter.device.type == "meta" for parameter in streamed.denoiser.model.parameters())


def test_only_the_text_encoders_may_be_streamed(pipeline: Pipeline, model: ModelRef) -> None:
    streamed = load_pipeline(model, CPU, "float32", cores=2, streamed=Streamed.TEXTS)
    assert {parameter.device.type for parameter in streamed.denoiser.model.parameters()} == {"cpu"}
    assert {parameter.device.type for parameter in streamed.prompts.encoders[0].model.parameters()} == {"meta"}
    assert same(bits(streamed), bits(pipeline))


def test_so_does_sdxl(xl: Pipeline) -> None:
    streamed = load_pipeline(xl.model, CPU, "float32", cores=2, streamed=Streamed.ALL)
    assert same(bits(streamed), bits(xl))


def test_a_model_larger_than_the_device_is_streamed_from_the_start(model: ModelRef, pipeline: Pipeline) -> None:
    ways = []
    for share in (2.0, 0.6, 0.1):
        room = RenderSettings(device="cpu", memory_gb=share * pipeline.size / 1e9)
        ways.append(Pipelines(room, CPU, 2).get(model, (), lambda: None).streamed)
    assert ways == [Streamed.NOTHING, Streamed.TEXTS, Streamed.ALL]
