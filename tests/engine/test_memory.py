"""What is tried when memory runs out, rung by rung; and that it is remembered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from weakref import ref

import numpy as np
import pytest
import torch

from invokeai_daemon.engine.faults import explained
from invokeai_daemon.engine.loading.cores import share_of
from invokeai_daemon.engine.loading.memory import Easing, Memory, Streamed
from invokeai_daemon.engine.loading.parts import being_read
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.loading.vae import Vae
from invokeai_daemon.job.plan import ModelRef
from tests.engine.build import image, new_vae
from tests.engine.conftest import render

MODEL = ModelRef("tiny", "/models/tiny", "sd-1", hash="blake3:1")
DEVICE = {"device": "cpu", "bytes": 8}


def test_denoising_takes_fewer_images_then_less_of_each_then_less_of_the_model() -> None:
    memory, seen = Memory(None, DEVICE), []
    for lanes in (5, 2, 1, 1, 1):
        assert memory.climb(MODEL, image(), "denoise", lanes)
        seen.append(memory.easing(MODEL, image()))
    assert seen == [
        Easing(lanes=2),
        Easing(lanes=1),
        Easing(lanes=1, sequential=True),
        Easing(lanes=1, sequential=True, streamed=Streamed.TEXTS),
        Easing(lanes=1, sequential=True, streamed=Streamed.ALL),
    ]
    assert not memory.climb(MODEL, image(), "denoise", 1)
    assert seen[-1].words == ["one at a time", "guidance one row after the other", "layers from the disk"]


def test_a_vae_works_in_tiles_first() -> None:
    memory = Memory(None, DEVICE)
    assert memory.climb(MODEL, image(), "vae")
    assert memory.easing(MODEL, image()).words == ["VAE in tiles"]
    for streamed in (Streamed.TEXTS, Streamed.ALL):
        assert memory.climb(MODEL, image(), "vae")
        assert memory.easing(MODEL, image()).streamed is streamed
    assert not memory.climb(MODEL, image(), "vae")


def test_other_models_and_sizes_are_rendered_as_ever() -> None:
    memory = Memory(None, DEVICE)
    memory.climb(MODEL, image(), "load")
    assert memory.easing(MODEL, image(width=128)) == Easing()
    assert memory.easing(replace(MODEL, hash="blake3:2"), image()) == Easing()
    assert memory.easing(MODEL, image(seed=9, steps=50)).streamed


def test_it_is_remembered_for_this_device_only(tmp_path: Path) -> None:
    file = tmp_path / "memory.json"
    Memory(file, DEVICE).climb(MODEL, image(), "denoise", 8)
    Memory(file, DEVICE).climb(MODEL, image(), "load")
    assert Memory(file, DEVICE).easing(MODEL, image()) == Easing(lanes=4, streamed=Streamed.TEXTS)
    assert Memory(file, {**DEVICE, "bytes": 16}).easing(MODEL, image()) == Easing()


def test_a_damaged_memory_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "memory.json"
    for text in ("", "[]", '{"device": null}', '{"device": {"device": "cpu", "bytes": 8}, "needed": {"x": {"y": 1}}}'):
        file.write_text(text)
        assert Memory(file, DEVICE).easing(MODEL, image()) == Easing()


def test_a_pipeline_forgets_what_it_can_make_again(pipeline: Pipeline) -> None:
    before = render(pipeline, [image()])[0]
    rows = ref(pipeline.prompts.encode(["a red circle"])["a red circle"].rows)
    assert rows() is not None
    pipeline.forget()
    assert rows() is None
    assert np.array_equal(render(pipeline, [image()])[0], before)


def test_a_vae_that_overflows_while_it_encodes_does_so_in_float32() -> None:
    model = new_vae()
    with torch.no_grad():
        model.encoder.conv_in.weight *= 1e5
    vae = Vae(model.half(), share_of(1, torch.device("cpu"), 1))
    latents = vae.encode(torch.ones(1, 3, 32, 32))
    assert vae.dtype is torch.float32
    assert torch.isfinite(latents).all()


def test_a_library_that_takes_a_lack_of_memory_for_a_broken_file_is_not_believed(tmp_path: Path) -> None:
    with pytest.raises(MemoryError), being_read("model", replace(MODEL, path=str(tmp_path))):
        try:
            raise MemoryError
        except MemoryError:
            raise OSError("Unable to load weights from checkpoint file") from None
    sentence, is_temporary = explained(MemoryError())
    assert "too little memory" in sentence
    assert is_temporary
