"""Infill: holes are filled, each method by its own rule, and what is visible stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from invokeai_daemon.engine.painting import patchmatch as patchmatch_module
from invokeai_daemon.engine.painting.infill import METHODS, infilled
from invokeai_daemon.engine.painting.patchmatch import patchmatch
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.schema.pictures import Infill

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def bricks(size: int = 128) -> Pixels:
    """A wall that repeats every 32 × 16 pixels."""
    rows, columns = np.mgrid[:size, :size]
    shifted = columns + rows // 8 % 2 * 8
    values = np.stack([150 + shifted // 16 % 2 * 60, 90 + rows // 8 % 2 * 40, np.full((size, size), 60)], axis=-1)
    values[(rows % 8 == 0) | (shifted % 16 == 0)] = 30
    return values.astype(np.uint8)


def holed(picture: Pixels, start: int = 48, end: int = 80) -> tuple[Pixels, Pixels]:
    colors, alpha = picture.copy(), np.full(picture.shape[:2], 255, np.uint8)
    colors[start:end, start:end], alpha[start:end, start:end] = 0, 0
    return colors, alpha


@pytest.mark.parametrize("method", METHODS)
def test_holes_are_filled_and_nothing_else(method: str) -> None:
    colors, alpha = holed(bricks())
    result = infilled(colors, alpha, Infill(method=method, tile_size=16))
    assert np.array_equal(result[alpha == 255], colors[alpha == 255])
    # No brick and no mortar is darker than this.
    assert (result[alpha == 0] >= 25).all()
    assert np.array_equal(
        METHODS[method](colors, alpha, Infill(method=method, tile_size=16))[alpha == 0], result[alpha == 0]
    )


def test_half_transparent_pixels_are_mixed_with_what_is_filled_in() -> None:
    colors, alpha = holed(np.full((64, 64, 3), 200, np.uint8), 24, 40)
    alpha[24:40, 24:40], colors[24:40, 24:40] = 102, 200
    result = infilled(colors, alpha, Infill(method="solid", color="#640000"))
    assert (result[24:40, 24:40] == (140, 80, 80)).all()


def test_solid_is_one_colour() -> None:
    colors, alpha = holed(bricks())
    assert (infilled(colors, alpha, Infill(method="solid"))[alpha == 0] == 127).all()


def test_tiles_are_squares_of_what_is_visible() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (80, 96, 3), np.uint8)
    colors, alpha = holed(picture, 32, 64)
    result = infilled(colors, alpha, Infill(method="tile", tile_size=16))
    whole = {
        picture[y : y + 16, x : x + 16].tobytes()
        for y in range(0, 80, 16)
        for x in range(0, 96, 16)
        if alpha[y : y + 16, x : x + 16].all()
    }
    assert all(result[y : y + 16, x : x + 16].tobytes() in whole for y in (32, 48) for x in (32, 48))


def test_tiles_larger_than_anything_visible_are_an_error() -> None:
    colors, alpha = holed(bricks(), 16, 112)
    with pytest.raises(RenderError, match=r"no square of 32 pixels.*smaller tile_size"):
        infilled(colors, alpha, Infill(method="tile"))


def test_a_mosaic_has_blocks_of_visible_colours() -> None:
    colors, alpha = holed(bricks(256), 64, 192)
    result = infilled(colors, alpha, Infill(method="mosaic"))
    seen = {tuple(color) for color in colors[alpha == 255]}
    for y in (64, 128):
        for x in (64, 128):
            [block] = np.unique(result[y : y + 64, x : x + 64].reshape(-1, 3), axis=0)
            assert tuple(block) in seen


def test_patchmatch_goes_on_with_a_pattern() -> None:
    picture = bricks()
    colors, alpha = holed(picture)
    away = {
        method: np.abs(infilled(colors, alpha, Infill(method=method)).astype(int) - picture)[alpha == 0].mean()
        for method in ("patchmatch", "cv2", "solid")
    }
    assert away["patchmatch"] < 2
    assert away["patchmatch"] < away["cv2"] / 5
    assert away["patchmatch"] < away["solid"] / 5


def test_patchmatch_fills_up_to_the_edges_of_a_canvas_and_by_its_seed() -> None:
    picture = bricks(64).astype(np.float32)
    canvas, hole = np.zeros((64, 96, 3), np.float32), np.ones((64, 96), bool)
    canvas[:, :64], hole[:, :64] = picture, False
    one, again, other = patchmatch(canvas, hole, 1), patchmatch(canvas, hole, 1), patchmatch(canvas, hole, 2)
    assert np.array_equal(one[:, :64], picture)
    assert one[hole].min() > 25
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_patchmatch_fills_what_is_smaller_than_a_patch_is_visible() -> None:
    canvas, hole = np.zeros((64, 64, 3), np.float32), np.ones((64, 64), bool)
    canvas[30:33, 30:33], hole[30:33, 30:33] = 200, False
    assert (patchmatch(canvas, hole, 0) == 200).all()


def test_patchmatch_takes_over_what_the_coarser_picture_found_where_a_search_would_take_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searched: list[int] = []
    candidates = patchmatch_module._Level._candidates

    def counted(level: Any, found: Any, is_first: bool) -> Any:
        searched.append(len(found))
        return candidates(level, found, is_first)

    monkeypatch.setattr(patchmatch_module._Level, "_candidates", counted)
    monkeypatch.setattr(patchmatch_module, "SEARCHED", 3000)
    picture = np.tile(bricks(), (2, 2, 1)).astype(np.float32)
    hole = np.zeros((256, 256), bool)
    hole[80:176, 80:176] = True
    filled = patchmatch(np.where(hole[..., None], 0, picture).astype(np.float32), hole, 0)
    # Of the picture itself, 100 × 100 patches touch the hole; of the half as large one, 52 × 52.
    assert max(searched) == 52 * 52
    assert np.abs(filled - picture)[hole].mean() < 10
