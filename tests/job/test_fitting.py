"""Sizes of pictures that are made from pictures: the rules, and the laws that hold for all sizes."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invokeai_daemon.job.fitting import Canvas, Size, first_size, fitted, is_alike, outpainted, own_size
from invokeai_daemon.job.schema import Outpaint

sides = st.integers(1, 20_000)
sizes = st.tuples(sides, sides)
boxes = st.tuples(st.integers(8, 600).map(lambda n: n * 8), st.integers(8, 600).map(lambda n: n * 8))
extents = st.integers(0, 2000) | st.integers(0, 400).map(lambda n: f"{n}%") | st.just("12.5 %")
outpaints = st.builds(Outpaint, left=extents, right=extents, top=extents, bottom=extents)


@pytest.mark.parametrize(
    ("size", "box", "result"),
    [
        ((512, 512), (512, 512), (512, 512)),
        ((1000, 700), (512, 512), (512, 352)),
        ((700, 1000), (512, 512), (352, 512)),
        ((64, 64), (512, 512), (512, 512)),
        # InvokeAI 2.3 makes 448 of the longer side here: int(561 * (512 / 561)) is 511.
        ((561, 561), (512, 512), (512, 512)),
        ((500, 700), (504, 696), (496, 696)),
    ],
)
def test_a_picture_fits_into_its_box(size: Size, box: Size, result: Size) -> None:
    assert fitted(size, box) == result


@given(sizes, boxes)
def test_a_fitted_picture_fills_a_side_of_the_box_and_keeps_its_shape(size: Size, box: Size) -> None:
    (width, height), result = size, fitted(size, box)
    assert result[0] % 8 == result[1] % 8 == 0
    assert result[0] <= box[0]
    assert result[1] <= box[1]
    assert result[0] == box[0] or result[1] == box[1]
    # The other side is what the shape asks for, less than 8 pixels away.
    across, along = Fraction(width * result[1], height), Fraction(height * result[0], width)
    assert 0 <= across - result[0] < 8 or 0 <= along - result[1] < 8


@given(sizes, boxes)
def test_a_job_that_says_what_was_made_makes_it_again(size: Size, box: Size) -> None:
    result = fitted(size, box)
    if min(result) >= 8:
        assert fitted(size, result) == result


@given(sizes)
def test_a_picture_that_is_not_fitted_keeps_its_size_but_for_less_than_8_pixels(size: Size) -> None:
    assert all(0 <= side - own < 8 and own % 8 == 0 for side, own in zip(size, own_size(size), strict=True))


@pytest.mark.parametrize(
    ("outpaint", "canvas"),
    [
        (Outpaint(right=64), Canvas(576, 512, 0, 0)),
        (Outpaint(left="25%", top="50%"), Canvas(640, 768, 128, 256)),
        (Outpaint(left=3), Canvas(520, 512, 8, 0)),
        (Outpaint(left=3, right=1), Canvas(520, 512, 3, 0)),
    ],
)
def test_a_picture_is_extended_where_it_is_asked(outpaint: Outpaint, canvas: Canvas) -> None:
    assert outpainted((512, 512), outpaint) == canvas


@given(sizes, outpaints)
def test_an_extended_picture_holds_the_first_one_whole(size: Size, outpaint: Outpaint) -> None:
    canvas = outpainted(size, outpaint)
    assert canvas.width % 8 == canvas.height % 8 == 0
    assert 0 <= canvas.left <= canvas.width - size[0]
    assert 0 <= canvas.top <= canvas.height - size[1]
    asked = [outpaint.left, outpaint.right, outpaint.top, outpaint.bottom]
    if all(isinstance(extent, int) for extent in asked):
        assert 0 <= canvas.width - size[0] - outpaint.left - outpaint.right < 8  # type: ignore[operator]


def test_a_mask_may_be_smaller_than_its_picture_and_not_of_another_shape() -> None:
    assert is_alike((1000, 700), (1000, 700))
    assert is_alike((500, 350), (1000, 700))
    assert is_alike((512, 352), (1000, 700))
    assert not is_alike((700, 1000), (1000, 700))
    assert not is_alike((512, 512), (1000, 700))


@given(sizes, boxes)
def test_a_mask_of_the_fitted_size_fits_its_picture(size: Size, box: Size) -> None:
    result = fitted(size, box)
    if min(result) >= 64:
        assert is_alike(result, size)


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ((1024, 1024), (512, 512)),
        ((1024, 768), (584, 440)),
        ((1024, 512), (720, 360)),
        ((256, 256), (512, 512)),
        ((768, 1024), (440, 584)),
        ((2048, 256), (2048, 256)),
    ],
)
def test_the_first_pass_has_the_models_own_area_and_the_pictures_shape(
    asked: tuple[int, int], first: tuple[int, int]
) -> None:
    assert first_size(asked, side=512) == first
