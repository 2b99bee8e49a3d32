"""`check` says what a picture would be made from and with, and everything that keeps it from being made."""

from __future__ import annotations

from pathlib import Path

import pytest

from invokeai_daemon.cli.check import ended, forecast, planner_of
from invokeai_daemon.errors import JobError
from invokeai_daemon.job.parse import parse_job
from invokeai_daemon.root import Root
from tests.daemon.desk import Desk
from tests.daemon.test_inputs import lora, picture


@pytest.fixture
def desk(root: Root) -> Desk:
    desk = Desk(root)
    desk.register()
    return desk


def told(desk: Desk, folder: Path, text: str) -> list[str]:
    """What is said of a job that is not in the root, with a photo and a mask beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "photo.png").write_bytes(picture((1000, 700)))
    (folder / "mask.png").write_bytes(picture((500, 350)))
    path = folder / "cat.toml"
    path.write_text(text)
    return forecast(parse_job(text.encode(), "cat.toml"), path, planner_of(desk.root, folder))


def test_sizes_pictures_and_adapters_are_said(desk: Desk, tmp_path: Path) -> None:
    lora(desk, default_settings={"weight": 0.6})
    desk.register("edges", type="controlnet", path=str(desk.root.models))
    text = """prompt = "a cat"
seed = 7
init = {image = "photo.png", strength = 0.5}
mask = {image = "mask.png", invert = true}
[[loras]]
name = "ink"
[[controlnets]]
name = "edges"
image = "photo.png"
processor = "canny"
end = 0.5
"""
    assert told(desk, tmp_path / "jobs", text) == [
        "cat.toml is valid. It would make 1 image of 512 × 352 with paint: 30 steps of euler, cfg_scale 7.5.",
        "Seed 7.",
        'Made from "photo.png": strength 0.5.',
        'Painted anew: all but what is black in "mask.png".',
        "LoRA ink-scenery, weight 0.6.",
        'ControlNet edges follows "photo.png", seen by canny, weight 1, from 0 to 0.5 of the run.',
    ]
    assert not list(desk.root.outputs.iterdir())


def test_an_extended_picture_is_told_with_its_sides(desk: Desk, tmp_path: Path) -> None:
    text = 'prompt = "a cat"\nseed = 7\ninit = {image = "photo.png"}\noutpaint = {left = 64, top = "50%"}\n'
    lines = told(desk, tmp_path / "jobs", text)
    assert "of 1064 × 1056 with paint" in lines[0]
    assert "Extended: left by 64 pixels, top by 50%." in lines


def test_all_that_is_wrong_is_said_at_once(desk: Desk, tmp_path: Path) -> None:
    text = 'prompt = "a cat"\nstyle_prompt = "ink"\n[mask]\nimage = "lost.png"\n'
    with pytest.raises(JobError) as caught:
        told(desk, tmp_path / "jobs", text)
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [
        (2, "style_prompt"),
        (3, "mask"),
        (4, "mask.image"),
    ]


def test_a_seed_that_is_named_is_told_also_where_those_of_its_variations_are_drawn(desk: Desk, tmp_path: Path) -> None:
    text = 'prompt = "a cat"\nseed = 7\niterations = 3\n[variation]\namount = 0.2\n'
    assert told(desk, tmp_path / "jobs", text)[1] == "Seed 7; those of the variations are drawn when it starts."
    assert told(desk, tmp_path / "jobs", text.replace("seed = 7\n", ""))[1] == "The seed is drawn when it starts."


def test_a_question_ends_as_one() -> None:
    assert ended("Did you mean this?") == "Did you mean this?"
    assert ended("so it is") == "so it is."
