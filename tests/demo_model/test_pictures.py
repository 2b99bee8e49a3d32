"""What the demo model makes of other pictures, and in sizes beyond its own, from dropped file to PNG."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from demo_model.recognise import recognise
from demo_model.scenes import COLOURS, Scene, paint
from invokeai_daemon.root import Root

STAR, CIRCLE = Scene("star", "yellow", "green"), Scene("circle", "red", "blue")
PROMPT = f'prompt = "{CIRCLE.caption()}"\n'
INIT = '[init]\nimage = "star.png"\n'
LARGE = f'prompt = "{STAR.caption()}"\nseed = 3\niterations = 2\nwidth = 128\nheight = 128\n'
#: What is painted of the init image in "painted", and gone from it in "erased": left, upper, right, lower.
HOLE = (8, 8, 56, 56)
ON_GREEN = Scene("circle", "red", "green")
PAINTED = f'prompt = "{ON_GREEN.caption()}"\nseed = 7\n'
STRENGTHS = (0.0, 0.1, 0.3, 0.6)
JOBS = {
    **{f"changed-{strength}": f"{PROMPT}seed = 7\n{INIT}strength = {strength}" for strength in STRENGTHS},
    "matched": f"{PROMPT}seed = 7\n{INIT}strength = 0.6\ncolor_match = true",
    "borrowed": f'{PROMPT}seed = 7\ninit_color = "star.png"',
    "large": LARGE,
    "painted": f'{PAINTED}{INIT}strength = 0.9\n[mask]\nimage = "mask.png"',
    "erased": f'{PAINTED}[init]\nimage = "erased.png"\nstrength = 0.9\n[seam]\nsize = 8\nblur = 2\nsteps = 10',
    "extended": f'prompt = "{STAR.caption()}"\nseed = 7\n{INIT}[outpaint]\nright = "50%"',
    "hires": f"{LARGE}[hires]\nstrength = 0.1",
}


def star() -> Image.Image:
    return paint(STAR, (0.5, 0.5), 0.38)


def lay_out(root: Root) -> None:
    star().save(root.path / "star.png")
    mask, erased = Image.new("L", star().size, 255), star().convert("RGBA")
    mask.paste(0, HOLE)
    mask.save(root.path / "mask.png")
    erased.paste((0, 0, 0, 0), HOLE)
    erased.save(root.path / "erased.png")


def pictures(outputs: Path, name: str) -> list[npt.NDArray[np.int64]]:
    return [np.asarray(Image.open(file)).astype(np.int64) for file in sorted((outputs / name).glob("*.png"))]


def shapes(picture: npt.NDArray[np.int64]) -> int:
    """How many things stand out from the background."""
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    stands_out = np.abs(picture - np.median(border, axis=0)).sum(axis=-1) > 150
    _, _, boxes, _ = cv2.connectedComponentsWithStats(stands_out.astype(np.uint8))
    return int((boxes[1:, cv2.CC_STAT_AREA] > stands_out.size / 100).sum())


def test_the_more_strength_the_further_from_the_init_image(outputs: Path) -> None:
    away = [float(np.abs(pictures(outputs, f"changed-{each}")[0] - np.asarray(star())).mean()) for each in STRENGTHS]
    assert away == sorted(away)
    assert away[0] < 4, "nothing is made anew"
    assert away[1] > 20


def test_a_changed_picture_becomes_what_the_prompt_says(outputs: Path) -> None:
    [file] = (outputs / "changed-0.6").glob("*.png")
    seen = recognise(Image.open(file))
    assert seen is not None and seen.scene == CIRCLE


def test_a_picture_gets_the_colours_of_the_init_image_or_of_another(outputs: Path) -> None:
    green = np.array(COLOURS[STAR.background])
    for name in ("matched", "borrowed"):
        corner = pictures(outputs, name)[0][4:10, 4:10].reshape(-1, 3).mean(axis=0)
        assert np.abs(corner - green).max() < 45, name
    blue = pictures(outputs, "changed-0.6")[0][4:10, 4:10].reshape(-1, 3).mean(axis=0)
    assert np.abs(blue - green).max() > 100


@pytest.mark.parametrize("name", ["painted", "erased"])
def test_a_painted_part_becomes_what_the_prompt_says_and_the_rest_stays_bit_for_bit(outputs: Path, name: str) -> None:
    left, upper, right, lower = HOLE
    is_kept = np.ones((64, 64), bool)
    is_kept[upper:lower, left:right] = False
    for picture in pictures(outputs, name):
        assert np.array_equal(picture[is_kept], np.asarray(star())[is_kept])
        seen = recognise(Image.fromarray(picture.astype(np.uint8)))
        assert seen is not None and seen.scene == ON_GREEN


def test_an_extended_picture_goes_on_with_its_background_and_keeps_the_original_bit_for_bit(outputs: Path) -> None:
    for picture in pictures(outputs, "extended"):
        assert picture.shape == (64, 96, 3)
        assert np.array_equal(picture[:, :64], np.asarray(star()))
        is_green = np.abs(picture[:, 64:] - np.array(COLOURS[STAR.background])).max(axis=-1) < 45
        assert is_green.mean() > 0.6


def test_a_large_picture_in_two_passes_shows_one_thing_where_one_pass_shows_several(outputs: Path) -> None:
    assert [shapes(picture) for picture in pictures(outputs, "large")] == [4, 4]
    assert [shapes(picture) for picture in pictures(outputs, "hires")] == [1, 1]
    for file in sorted((outputs / "hires").glob("*.png")):
        seen = recognise(Image.open(file))
        assert seen is not None and seen.scene.shape == "star"


def test_the_job_beside_the_pictures_says_from_what_they_were_made(outputs: Path) -> None:
    assert "[hires]\nstrength = 0.1\nsize = 64\n" in (outputs / "hires" / "job.toml").read_text()
    [copy] = (outputs / "changed-0.6" / "inputs").glob("*.png")
    assert f'image = "inputs/{copy.name}"' in (outputs / "changed-0.6" / "job.toml").read_text()
    result = json.loads((outputs / "changed-0.6" / "result.json").read_text())
    assert [image["state"] for image in result["images"]] == ["done"]
