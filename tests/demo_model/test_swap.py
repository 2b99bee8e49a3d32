"""A swap exchanges the colour of the demo model's shapes and keeps more of their outline than another prompt does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from demo_model.recognise import recognise

COLOURS = {"original": "red", "edited": "green", "swapped": "(red).swap(green, t_start=0, s_end=1)"}
VALUES = "seeds = [1, 2, 3, 4]\nsteps = 8\nscheduler = 'euler'\n"
JOBS = {name: f"prompt = 'a {colour} circle on a blue background'\n{VALUES}" for name, colour in COLOURS.items()}


def pictures(outputs: Path, name: str) -> list[Image.Image]:
    return [Image.open(file) for file in sorted((outputs / name).glob("*.png"))]


def outline(picture: Image.Image) -> npt.NDArray[np.bool_]:
    """Where the picture is not as its background is."""
    values = np.asarray(picture).astype(int)
    background = np.median(np.concatenate([*values[:3], *values[-3:]]), axis=0)
    return np.abs(values - background).sum(-1) > 120


def overlap(some: list[Image.Image], others: list[Image.Image]) -> float:
    """Of the outlines of pictures with equal seeds, what both have of what either has."""
    pairs = [(outline(one), outline(other)) for one, other in zip(some, others, strict=True)]
    return float(np.mean([(one & other).sum() / (one | other).sum() for one, other in pairs]))


def test_a_swap_changes_the_colour_and_keeps_the_outline(outputs: Path) -> None:
    original, edited, swapped = (pictures(outputs, name) for name in COLOURS)
    for picture in swapped:
        seen = recognise(picture)
        assert seen is not None
        assert (seen.scene.shape, seen.scene.colour, seen.scene.background) == ("circle", "green", "blue")
    assert overlap(original, swapped) > overlap(original, edited) + 0.02
