"""The bundled model is small, ours and real: it does what its prompts say, whatever file its weights come in."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from demo_model.evaluate import BUNDLED, evaluate, share_right
from demo_model.recognise import is_right, recognise
from demo_model.scenes import SCENES, draw, split


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


def test_the_judge_recognises_every_drawn_scene() -> None:
    rng = random.Random(5)
    assert all(is_right(draw(scene, rng), scene) for scene in rng.sample(SCENES, 120))


def test_the_judge_sees_nothing_in_noise_and_in_empty_pictures() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert recognise(Image.fromarray(noise)) is None
    assert recognise(Image.new("RGB", (64, 64), (38, 94, 214))) is None


def test_no_held_out_scene_is_trained_on() -> None:
    train, held_out = split()
    assert not set(train) & set(held_out)
    assert len(train) + len(held_out) == len(SCENES)


@pytest.mark.timeout(600)
def test_the_demo_model_follows_prompts_it_never_saw_and_a_ckpt_of_it_makes_the_same_pictures(tmp_path: Path) -> None:
    assert BUNDLED.stat().st_size <= 20_000_000
    scenes = split()[1][:20]
    outcomes = evaluate(BUNDLED, scenes, seeds=2, folder=tmp_path / "safetensors")
    assert len(outcomes) == 40
    assert share_right(outcomes) >= 0.95

    ckpt = tmp_path / "demo.ckpt"
    torch.save({"state_dict": load_file(BUNDLED)}, ckpt)
    from_ckpt = evaluate(ckpt, scenes[:4], seeds=2, folder=tmp_path / "ckpt")
    assert len(from_ckpt) == 8
    for one, other in zip(outcomes, from_ckpt, strict=False):
        assert one.file.name == other.file.name
        assert np.array_equal(pixels(one.file), pixels(other.file))
