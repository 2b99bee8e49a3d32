"""Pipelines: loaded from folders without a network, within a budget, and errors that name the model."""

from __future__ import annotations

import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from invokeai_daemon.engine.loading import pipelines as pipelines_module
from invokeai_daemon.engine.loading.pipeline import Pipeline, load_pipeline
from invokeai_daemon.engine.loading.pipelines import Pipelines
from invokeai_daemon.errors import ModelError, ModelMissing
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.settings import RenderSettings
from tests.engine.conftest import SETTLE_GARBAGE

CPU = torch.device("cpu")


def pipelines_of(size: int, count: float) -> Pipelines:
    """Room for so many pipelines of `size` bytes."""
    return Pipelines(RenderSettings(device="cpu", cache_gb=size * count / 1e9), CPU, cores=1)


def get(pipelines: Pipelines, model: ModelRef, in_use: tuple[Pipeline, ...] = ()) -> tuple[Pipeline, bool]:
    """The pipeline, and whether it had to be loaded."""
    told: list[bool] = []
    return pipelines.get(model, in_use, lambda: told.append(True)), bool(told)


def test_a_loaded_model_is_not_loaded_again(model: ModelRef, pipeline: Pipeline) -> None:
    pipelines = pipelines_of(pipeline.size, 2.5)
    first, was_loading = get(pipelines, model)
    assert was_loading
    assert get(pipelines, model) == (first, False)


def test_the_least_recently_used_model_is_given_up(model: ModelRef, pipeline: Pipeline) -> None:
    pipelines = pipelines_of(pipeline.size, 2.5)
    one, two, three = (replace(model, hash=f"blake3:{name}") for name in "abc")
    for wanted in (one, two, one, three):
        get(pipelines, wanted)
    assert [pipelines.has(each) for each in (one, two, three)] == [True, False, True]


def test_a_model_that_was_given_up_frees_its_memory(
    model: ModelRef, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines_module, "_settle_garbage", SETTLE_GARBAGE)
    pipelines = pipelines_of(pipeline.size, 1.5)
    one, two = (replace(model, hash=f"blake3:{name}") for name in "ab")
    weights = weakref.ref(get(pipelines, one)[0].denoiser.model.conv_in)
    get(pipelines, two)
    assert weights() is None


def test_a_model_in_use_is_kept(model: ModelRef, pipeline: Pipeline) -> None:
    pipelines = pipelines_of(pipeline.size, 1.5)
    one, two = (replace(model, hash=f"blake3:{name}") for name in "ab")
    busy, _ = get(pipelines, one)
    get(pipelines, two, in_use=(busy,))
    assert pipelines.has(one)
    assert pipelines.give_up_others((busy,))
    assert [pipelines.has(one), pipelines.has(two)] == [True, False]


def test_a_folder_that_is_gone_is_missing(model: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"is not there any more\. Import the model again"):
        load_pipeline(replace(model, path=str(tmp_path / "gone")), CPU, "auto", cores=1)


@pytest.mark.parametrize(
    "broken", ["unet/diffusion_pytorch_model.safetensors", "vae/config.json", "tokenizer/vocab.json"]
)
def test_a_broken_folder_is_told_with_its_name(model: ModelRef, tmp_path: Path, broken: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model.path, copy)
    (copy / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
    (copy / broken).write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match=f'model "tiny" could not be loaded from {copy}'):
        load_pipeline(replace(model, path=str(copy)), CPU, "auto", cores=1)


def test_the_registered_prediction_type_wins(model: ModelRef) -> None:
    loaded = load_pipeline(replace(model, prediction_type="v_prediction"), CPU, "auto", cores=1)
    assert loaded.schedulers.new("euler", 2).config.prediction_type == "v_prediction"


def test_weights_stored_in_half_are_found(model: ModelRef, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model.path, copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    loaded = load_pipeline(replace(model, path=str(copy)), CPU, "auto", cores=1)
    assert loaded.denoiser.model.config.cross_attention_dim == 32


def test_the_latent_shape_follows_the_vae(pipeline: Pipeline) -> None:
    widths = json.loads((Path(pipeline.model.path) / "vae" / "config.json").read_text())["block_out_channels"]
    assert pipeline.pixels_per_latent == 2 ** (len(widths) - 1)
    assert pipeline.latent_shape(width=64, height=128) == (1, 4, 16, 8)
