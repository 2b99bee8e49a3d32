"""Colours matched in L*a*b*: known values of the conversion, and histograms that become those of the other picture."""

from __future__ import annotations

import numpy as np
import pytest

from invokeai_daemon.engine.painting.colors import match, to_lab, to_rgb, with_colors_of

#: As tables of colours list them (D65, 2°).
KNOWN = {
    (255, 0, 0): (53.24, 80.09, 67.20),
    (0, 255, 0): (87.73, -86.18, 83.18),
    (0, 0, 255): (32.30, 79.19, -107.86),
    (255, 255, 0): (97.14, -21.55, 94.48),
    (255, 255, 255): (100.0, 0.0, 0.0),
    (128, 128, 128): (53.59, 0.0, 0.0),
    (8, 8, 8): (2.19, 0.0, 0.0),
    (0, 0, 0): (0.0, 0.0, 0.0),
}


@pytest.mark.parametrize("rgb", KNOWN)
def test_known_colors_are_where_tables_have_them(rgb: tuple[int, int, int]) -> None:
    assert to_lab(np.array(rgb, dtype=np.uint8)) == pytest.approx(np.array(KNOWN[rgb]), abs=0.02)


def test_every_color_comes_back() -> None:
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    colors = np.stack(np.meshgrid(steps, steps, steps), axis=-1)
    assert np.array_equal(to_rgb(to_lab(colors)), colors)


def test_matched_values_keep_their_order_and_have_the_others_spread() -> None:
    random = np.random.default_rng(1)
    values, wanted = random.normal(0, 1, (20, 30)), random.gamma(2, 5, (30, 20))
    matched = match(values, wanted)
    assert matched.shape == values.shape
    assert np.array_equal(np.argsort(matched, axis=None), np.argsort(values, axis=None))
    # As many values, each its own: those of equal rank are equal.
    assert np.allclose(np.sort(matched, axis=None), np.sort(wanted, axis=None))


def test_values_between_two_ranks_lie_between_their_values() -> None:
    assert match(np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 30.0])).tolist() == [10.0, 10.0, 20.0, 30.0]
    assert match(np.array([5.0, 5.0, 7.0, 5.0]), np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [3.0, 3.0, 4.0, 3.0]


def test_a_picture_gets_the_colors_of_another_of_any_size() -> None:
    random = np.random.default_rng(2)
    picture = random.integers(0, 256, (32, 24, 3), dtype=np.uint8)
    other = random.integers(90, 150, (40, 50, 3), dtype=np.uint8)
    matched = with_colors_of(picture, other)
    assert matched.shape == picture.shape
    for channel in range(3):
        got, wanted = to_lab(matched)[..., channel], to_lab(other)[..., channel]
        assert np.percentile(got, [5, 50, 95]) == pytest.approx(np.percentile(wanted, [5, 50, 95]), abs=2.5)


def test_a_picture_with_its_own_colors_stays() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(with_colors_of(picture, picture), picture)
