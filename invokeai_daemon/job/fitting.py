"""Fitting: how large a picture becomes that is made from another one, or in two passes. No size is off by one.

Called at planning, and by the modes that extend a picture. Sizes are (width, height) in pixels; all but those of
pictures that somebody gave are multiples of 8, as latents are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from invokeai_daemon.job.schema.pictures import Outpaint

Size = tuple[int, int]
STEP = 8
#: Models make nothing of less.
SMALLEST = 64


@dataclass(frozen=True)
class Canvas:
    """An init picture on a larger one."""

    #: Of the result.
    width: int
    height: int
    #: Where the upper left corner of the init picture lies in it.
    left: int
    top: int


def fitted(size: Size, box: Size) -> Size:
    """A picture scaled to fit into a box: one side is the box's, the other follows and is floored.

    A result as the box gives the result again, so a job that says what was made makes the same.
    """
    (width, height), (most_wide, most_high) = size, box
    by_width = most_wide, _floored(height * most_wide // width)
    by_height = _floored(width * most_high // height), most_high
    within = [one for one in (by_width, by_height) if one[0] <= most_wide and one[1] <= most_high]
    return max(within, key=lambda one: one[0] * one[1])


def own_size(size: Size) -> Size:
    """The size of a picture that is not scaled to fit: its own, floored."""
    return _floored(size[0]), _floored(size[1])


def outpainted(size: Size, outpaint: Outpaint) -> Canvas:
    """The canvas of a picture that is extended. It is not scaled; what lacks to a multiple of 8 comes on top."""
    left, width = _extended(size[0], outpaint.left, outpaint.right)
    top, height = _extended(size[1], outpaint.top, outpaint.bottom)
    return Canvas(width, height, left, top)


def first_size(size: Size, side: int) -> Size:
    """The size of the first pass of a large picture, for a model that was trained on squares of a side: their area, the
    picture's shape.

    No side is less than half the trained one; then the other is longer.
    """
    least, aspect = side // 2, size[0] / size[1]
    if aspect > 1:
        high = max(least, math.sqrt(side * side / aspect))
        wide = high * aspect
    else:
        wide = max(least, math.sqrt(side * side * aspect))
        high = wide / aspect
    return _floored(int(wide)), _floored(int(high))


def is_alike(size: Size, other: Size) -> bool:
    """Whether two pictures have the same shape, as far as scaling to whole pixels and multiples of 8 keeps it."""
    (width, height), (other_width, other_height) = size, other
    across, along = width * other_height, height * other_width
    slack = STEP * max(other_width, other_height)
    return abs(across - along) * 100 <= max(across, along) or (
        max(width, height) >= SMALLEST and abs(across - along) <= slack and _is_floored(size)
    )


def _is_floored(size: Size) -> bool:
    return size[0] % STEP == 0 and size[1] % STEP == 0


def _floored(side: int) -> int:
    return side - side % STEP


def _extended(side: int, before: int | str, after: int | str) -> tuple[int, int]:
    """What comes before a side, and the whole."""
    first, last = _pixels(side, before), _pixels(side, after)
    surplus = -(side + first + last) % STEP
    if first and not last:
        first += surplus
    else:
        last += surplus
    return first, side + first + last


def _pixels(side: int, extent: int | str) -> int:
    if isinstance(extent, int):
        return extent
    share = Fraction(extent.rstrip("% ")) / 100
    return round(side * share)
