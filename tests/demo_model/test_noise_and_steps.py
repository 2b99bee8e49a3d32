"""What a job asks of its noise and its steps is seen in the pictures of the demo model, from dropped file to PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from demo_model.recognise import recognise

CIRCLE = 'prompt = "a red circle on a blue background"\n'
TRIANGLE = 'prompt = "a red triangle on a blue background"\nseed = 5\n'
JOBS = {
    "seed": f"{CIRCLE}seed = 5",
    "other": f"{CIRCLE}seed = 900",
    "unvaried": f"{CIRCLE}seed = 5\n[variation]\namount = 0.0",
    "little": f"{CIRCLE}seed = 5\niterations = 3\n[variation]\namount = 0.2\nseed = 900",
    "varied": f"{CIRCLE}seed = 5\n[variation]\namount = 1.0\nseed = 900",
    "triangle": TRIANGLE,
    "flipped": f"{TRIANGLE}v_symmetry_time_pct = 0.9",
    "tile": f"{CIRCLE}seed = 5\nseamless_x = true",
    "strong": f"{CIRCLE}seed = 5\ncfg_scale = 15",
    "tamed": f"{CIRCLE}seed = 5\ncfg_scale = 15\nthreshold = 2.0",
    "steps": f"{CIRCLE}seed = 5\nsave_intermediates = 5",
}


def pixels(outputs: Path, name: str, number: int = 1) -> npt.NDArray[np.int64]:
    [file] = (outputs / name).glob(f"{number:04}.*.png")
    return np.asarray(Image.open(file)).astype(np.int64)


def away(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> float:
    """The mean difference of two pictures, 0 … 255."""
    return float(np.abs(one - other).mean())


def test_variations_lie_between_a_seed_and_another(outputs: Path) -> None:
    seed, other = pixels(outputs, "seed"), pixels(outputs, "other")
    assert np.array_equal(pixels(outputs, "unvaried"), seed)
    assert np.array_equal(pixels(outputs, "varied"), other)
    little = [pixels(outputs, "little", number) for number in (1, 2, 3)]
    assert 0 < away(little[0], seed) < away(other, seed)
    assert len({picture.tobytes() for picture in little}) == 3


def test_symmetry_mirrors(outputs: Path) -> None:
    def lopsided(name: str) -> int:
        """Pixels that belong to the shape on one side of the middle and not on the other."""
        picture = pixels(outputs, name)
        is_red = picture[..., 0] > picture[..., 2] + 40
        return int((is_red != is_red[::-1]).sum())

    assert lopsided("flipped") < 0.65 * lopsided("triangle")


def test_the_edges_of_a_tile_meet(outputs: Path) -> None:
    def seam(picture: npt.NDArray[np.int64]) -> float:
        """How far the pixels at the seam are apart, as a multiple of what is usual between neighbours."""
        return away(picture[:, 0], picture[:, -1]) / max(0.5, away(picture[:, 1:], picture[:, :-1]))

    assert seam(pixels(outputs, "tile")) < 1.5
    assert away(pixels(outputs, "tile"), pixels(outputs, "seed")) > 2


def test_a_threshold_mends_what_strong_guidance_overdoes(outputs: Path) -> None:
    usual = pixels(outputs, "seed")
    assert away(pixels(outputs, "tamed"), usual) < away(pixels(outputs, "strong"), usual) / 2


def test_pictures_of_steps_come_nearer_to_the_picture(outputs: Path) -> None:
    final = pixels(outputs, "steps")
    assert np.array_equal(final, pixels(outputs, "seed"))
    files = sorted((outputs / "steps" / "intermediates" / "0001.5").iterdir())
    assert [file.name for file in files] == ["0000.png", "0005.png", "0010.png", "0015.png", "0019.png"]
    left = [away(np.asarray(Image.open(file)).astype(np.int64), final) for file in files]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 3
    seen = recognise(Image.open(files[-2]))
    assert seen is not None and str(seen.scene.caption()) == "a red circle on a blue background"
