"""Masks and pasting, on numbers: black is painted, white is kept to the bit, colours are brought to what is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest

from invokeai_daemon.engine.modes.seam import usual_seam
from invokeai_daemon.engine.painting.masks import (
    are_erased,
    grown,
    mask_in,
    multiplied,
    painted_latents,
    resized,
    seam_of,
    uncovered,
)
from invokeai_daemon.engine.painting.pasting import color_corrected, pasted

Grey = np.ndarray[Any, np.dtype[np.uint8]]


def box(size: int = 64, start: int = 16, end: int = 48) -> Grey:
    """A mask that paints a square."""
    keep = np.full((size, size), 255, np.uint8)
    keep[start:end, start:end] = 0
    return keep


def noise(seed: int, size: int = 64, low: int = 0, high: int = 256) -> Grey:
    return np.random.default_rng(seed).integers(low, high, (size, size, 3), np.uint8)


# What a picture says as a mask


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "I;16"])
def test_the_brightness_of_a_picture_is_the_mask(mode: str) -> None:
    mask = PIL.Image.fromarray(box())
    picture = PIL.Image.fromarray(box().astype(np.uint16) * 257) if mode == "I;16" else mask.convert(mode)
    assert np.array_equal(np.asarray(mask_in(picture)), box())


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_the_mask_where_there_is_any(mode: str) -> None:
    picture = PIL.Image.new(mode, (64, 64), "white")
    picture.putalpha(PIL.Image.fromarray(box()))
    assert np.array_equal(np.asarray(mask_in(picture)), box())


def test_a_picture_with_an_alpha_channel_that_hides_nothing_is_a_mask_by_its_brightness() -> None:
    assert np.array_equal(np.asarray(mask_in(PIL.Image.fromarray(box()).convert("RGBA"))), box())


def test_colours_under_transparent_pixels_are_seen_to_be_erased() -> None:
    colors, alpha = noise(1), box()
    assert not are_erased(colors, alpha)
    assert not are_erased(colors, np.full_like(alpha, 255))
    for erased in (0, 255):
        colors[alpha == 0] = erased
        assert are_erased(colors, alpha)


def test_resizing_keeps_the_colours_of_transparent_pixels_and_whites_of_masks_white() -> None:
    picture = PIL.Image.new("RGBA", (64, 64), (200, 100, 50, 0))
    assert resized(picture, 32, 48).getpixel((16, 20)) == (200, 100, 50, 0)
    larger = np.asarray(resized(PIL.Image.fromarray(box()), 128, 128))
    assert (larger[:30] == 255).all() and (larger[34:94, 34:94] == 0).all()


# Arithmetic of masks


def test_a_mask_grows_and_shrinks_by_pixels() -> None:
    assert np.array_equal(grown(box(), 3), box(64, 13, 51))
    assert np.array_equal(grown(box(), -3), box(64, 19, 45))
    assert np.array_equal(grown(box(), 0), box())


def test_only_what_both_keep_is_kept_whole() -> None:
    one, other = np.array([[255, 255, 128, 0]], np.uint8), np.array([[255, 128, 128, 255]], np.uint8)
    assert multiplied(one, other).tolist() == [[255, 128, 64, 0]]


def test_a_latent_is_painted_by_the_upper_left_of_its_pixels() -> None:
    keep = np.full((16, 24), 255, np.uint8)
    keep[0, 8], keep[15, 7] = 127, 0
    assert painted_latents(keep, 8).tolist() == [[False, True, False], [False, False, False]]
    assert uncovered(keep) == 0.5
    assert uncovered(box()) == 0


def test_a_seam_is_as_wide_as_asked_and_fades() -> None:
    keep = np.full((64, 64), 255, np.uint8)
    keep[:, 32:] = 0
    sharp = seam_of(keep, 16, 0)
    assert (sharp[:, 24:40] == 0).all()
    assert (sharp[:, :22] == 255).all() and (sharp[:, 42:] == 255).all()
    soft = seam_of(keep, 16, 4)[32].astype(int)
    assert (np.diff(soft[8:32]) <= 0).all() and (np.diff(soft[32:56]) >= 0).all()
    assert len(set(soft)) > 5
    keep[:, 48:56] = 100
    assert not seam_of(keep, 2, 0)[:, 48:56].any()


def test_the_seam_of_a_small_picture_is_as_much_narrower() -> None:
    assert (usual_seam(512, 1024).size, usual_seam(512, 1024).blur) == (96, 16)
    assert (usual_seam(128, 64).size, usual_seam(128, 64).blur) == (12, 2)


# Pasting


@pytest.mark.parametrize("blur", [0, 1, 8, 100])
def test_what_is_white_in_a_mask_is_the_original_bit_for_bit(blur: int) -> None:
    original, made = noise(1), noise(2)
    result = pasted(original, made, box(), blur)
    assert np.array_equal(result[box() == 255], original[box() == 255])
    assert not np.array_equal(result[box() == 0], original[box() == 0])
    inner = slice(16 + blur + 1, 48 - blur - 1)
    assert np.array_equal(result[inner, inner], made[inner, inner])


def test_beside_what_is_kept_the_painted_part_comes_near_to_it() -> None:
    keep = np.full((32, 64), 255, np.uint8)
    keep[:, 32:] = 0
    original, made = np.full((32, 64, 3), 100, np.uint8), np.full((32, 64, 3), 180, np.uint8)
    row = pasted(original, made, keep, 8)[16, :, 0].astype(int)
    assert (row[:32] == 100).all() and (row[40:] == 180).all()
    # One ninth of the way for each pixel.
    assert row[32:40].tolist() == [round(180 - 80 * (1 - step / 9)) for step in range(1, 9)]


def test_a_grey_mask_mixes_both() -> None:
    original, made = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 200, np.uint8)
    assert (pasted(original, made, np.full((8, 8), 51, np.uint8), 4) == 180).all()


# Colours


def test_what_was_made_gets_the_mean_and_the_spread_of_what_is_kept() -> None:
    original = noise(1, low=60, high=190)
    made = np.rint((original.astype(float) - 125) * [0.5, 0.8, 1.2] + [100, 140, 125]).astype(np.uint8)
    keep = box(64, 40, 64)
    is_compared = np.zeros((64, 64), bool)
    is_compared[:24], is_compared[:, :24] = True, True
    result = color_corrected(made, original, keep)
    for channel in range(3):
        seen, wanted = made[is_compared][:, channel].astype(float), original[is_compared][:, channel].astype(float)
        expected = (made[..., channel] - seen.mean()) / seen.std() * wanted.std() + wanted.mean()
        assert np.array_equal(result[..., channel], np.rint(expected).clip(0, 255))
    assert np.abs(result.astype(int) - original).max() <= 2


def test_a_flat_background_takes_no_contrast_from_the_painted_part() -> None:
    original = np.full((64, 64, 3), 250, np.uint8)
    made = noise(1, low=0, high=100)
    made[:, :40] = 240
    keep = np.zeros((64, 64), np.uint8)
    keep[:, :40] = 255
    result = color_corrected(made, original, keep)
    assert np.array_equal(result, made + 10)


def test_with_nothing_to_compare_colours_stay() -> None:
    made = noise(1)
    assert np.array_equal(color_corrected(made, noise(2), np.zeros((64, 64), np.uint8)), made)
    assert np.array_equal(color_corrected(made, noise(2), box(64, 8, 56)), made)
