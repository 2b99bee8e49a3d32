"""The bundled model is small, ours and real: it does what its prompts say, whatever file its weights come in."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from demo_model.evaluate import BUNDLED, jobs_of, outcomes_of, share_right
from demo_model.recognise import is_right, recognise
from demo_model.scenes import SCENES, draw, split
from invokeai_daemon.root import Root

SEEDS = 2
UNSEEN = split()[1][:20]
#: The scenes whose pictures the model makes again from another kind of file.
AGAIN = jobs_of(UNSEEN[:2], SEEDS, 'model = "saved"')
JOBS = {**jobs_of(UNSEEN, SEEDS), **{f"ckpt-{name}": job for name, job in AGAIN.items()}}


def lay_out(root: Root) -> None:
    torch.save({"state_dict": load_file(BUNDLED)}, root.autoimport / "main" / "saved.ckpt")
    sidecar = BUNDLED.with_suffix(".toml").read_text()
    (root.autoimport / "main" / "saved.toml").write_text(sidecar.replace('"demo"', '"saved"'))


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


def test_the_demo_model_follows_prompts_it_never_saw(outputs: Path) -> None:
    assert BUNDLED.stat().st_size <= 20_000_000
    outcomes = outcomes_of(UNSEEN, outputs)
    assert len(outcomes) == SEEDS * len(UNSEEN) == 40
    assert share_right(outcomes) >= 0.95


def test_a_ckpt_of_the_demo_model_makes_the_same_pictures(outputs: Path) -> None:
    for name in AGAIN:
        files = sorted((outputs / f"ckpt-{name}").glob("*.png"))
        assert len(files) == SEEDS
        for file in files:
            assert np.array_equal(pixels(file), pixels(outputs / name / file.name))
