"""A ControlNet trained for the demo model lets it draw along the outlines of a picture, from dropped file to PNG."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from demo_model.recognise import recognise
from demo_model.scenes import COLOURS, SIZE, Scene, paint, shape_mask
from invokeai_daemon.root import Root

FIXTURES = Path(__file__).parent / "fixtures"
#: Where the star is, as shares of the picture: not where the demo model would draw one.
CENTRE, RADIUS, TILT = (0.55, 0.45), 0.33, 6.0
SEEDS = 8
#: The prompt says the colours and no shape.
JOB = f'prompt = "red on a green background"\nseed = 1\niterations = {SEEDS}\n'
CONTROL = '[[controlnets]]\nname = "outlines"\nimage = "tilted.png"\n'
JOBS = {
    "free": JOB,
    "followed": JOB + "save_intermediates = 20\n" + CONTROL,
    "ignored": JOB.replace(str(SEEDS), "1") + CONTROL + "weight = 0.0\n",
}


def lay_out(root: Root) -> None:
    shutil.copytree(FIXTURES / "outlines", root.autoimport / "controlnet" / "outlines")
    shutil.copy(FIXTURES / "outlines.toml", root.autoimport / "controlnet")
    paint(Scene("star", "yellow", "blue"), CENTRE, RADIUS, TILT).save(root.inbox / "tilted.png")


def pictures(outputs: Path, name: str) -> list[Image.Image]:
    return [Image.open(file).convert("RGB") for file in sorted((outputs / name).glob("*.png"))]


def shapes(pictures: list[Image.Image]) -> list[str]:
    seen = [recognise(picture) for picture in pictures]
    return [one.scene.caption("{colour} {shape} on {background}") if one else "nothing" for one in seen]


def overlap(picture: Image.Image) -> float:
    """How much of what is red, and of the star that was drawn, is both."""
    drawn = np.asarray(shape_mask("star", SIZE, (SIZE * CENTRE[0], SIZE * CENTRE[1]), SIZE * RADIUS, TILT)) > 127
    pixels = np.asarray(picture).astype(float)
    red, green = (((pixels - COLOURS[name]) ** 2).sum(axis=-1) for name in ("red", "green"))
    return float((drawn & (red < green)).sum() / (drawn | (red < green)).sum())


def test_pictures_follow_the_outline_that_they_are_given(outputs: Path) -> None:
    followed, free = pictures(outputs, "followed"), pictures(outputs, "free")
    assert len(followed) == len(free) == SEEDS
    assert shapes(followed).count("red star on green") >= 0.9 * SEEDS
    assert shapes(free).count("red star on green") <= 0.25 * SEEDS
    # It is where it was drawn.
    assert min(overlap(picture) for picture in followed) > 0.75
    assert max(overlap(picture) for picture in free) < 0.65


def test_without_weight_it_changes_nothing(outputs: Path) -> None:
    [ignored] = pictures(outputs, "ignored")
    assert np.array_equal(np.asarray(ignored), np.asarray(pictures(outputs, "free")[0]))


def test_the_picture_that_was_followed_is_kept_with_those_of_the_steps(outputs: Path) -> None:
    [file] = (outputs / "followed" / "intermediates" / "0001.1").glob("controlnet-1.png")
    lines = np.asarray(Image.open(file).convert("L"))
    assert lines.shape == (SIZE, SIZE)
    # Thin white lines on black, as the model's default settings say.
    assert set(np.unique(lines)) == {0, 255}
    assert 0.02 < (lines > 0).mean() < 0.15
