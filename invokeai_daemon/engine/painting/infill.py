"""Infill: what transparent parts of a picture are filled with before they are painted. One function for each method.

Called by the modes that paint into pictures. What is visible stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageColor

from invokeai_daemon.engine.painting.masks import Grey, Pixels
from invokeai_daemon.engine.painting.patchmatch import patchmatch
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.schema import Infill

#: Whatever is drawn is the same for every picture.
SEED = 0
#: Blocks and colours of a mosaic.
BLOCK, COLORS = 64, 256
#: Pixels around the hole that Telea's method looks at.
TELEA_RADIUS = 3


def infilled(colors: Pixels, alpha: Grey, how: Infill) -> Pixels:
    """A picture whose transparent parts are filled. Raises RenderError where the method cannot."""
    if (alpha == 255).all():
        return colors
    if not (alpha == 255).any():
        raise RenderError("no pixel of the init image is fully visible, so there is nothing to continue.")
    return _infilled(colors.tobytes(), alpha.tobytes(), alpha.shape, how)


@lru_cache(maxsize=2)
def _infilled(colors: bytes, alpha: bytes, shape: tuple[int, int], how: Infill) -> Pixels:
    """The images of a job have one picture in common, one after the other."""
    seen = np.frombuffer(colors, np.uint8).reshape(*shape, 3)
    visible = np.frombuffer(alpha, np.uint8).reshape(shape)
    filling = METHODS[how.method](seen, visible, how)
    over, under, mask = (PIL.Image.fromarray(each) for each in (seen, filling, visible))
    return np.asarray(PIL.Image.composite(over, under, mask))


def solid(colors: Pixels, alpha: Grey, how: Infill) -> Pixels:
    """One colour."""
    return np.broadcast_to(np.array(PIL.ImageColor.getrgb(how.color), np.uint8), colors.shape).copy()


def tile(colors: Pixels, alpha: Grey, how: Infill) -> Pixels:
    """Squares of the picture that are visible as a whole, in any order."""
    size = how.tile_size
    whole = [
        colors[y : y + size, x : x + size]
        for y, x in _corners(alpha, size)
        if _is_whole(alpha[y : y + size, x : x + size], size)
    ]
    if not whole:
        raise RenderError(
            f"no square of {size} pixels of the init image is visible as a whole. "
            "Ask for a smaller tile_size under [infill], or for another method."
        )
    rng = np.random.default_rng(SEED)
    filled = np.empty_like(colors)
    for y, x in _corners(alpha, size):
        room = filled[y : y + size, x : x + size]
        room[:] = whole[rng.integers(len(whole))][: room.shape[0], : room.shape[1]]
    return filled


def mosaic(colors: Pixels, alpha: Grey, how: Infill) -> Pixels:
    """Squares of the colours that are visible."""
    rng = np.random.default_rng(SEED)
    seen = colors[alpha == 255]
    palette = seen[rng.integers(len(seen), size=COLORS)]
    filled = np.empty_like(colors)
    for y, x in _corners(alpha, BLOCK):
        filled[y : y + BLOCK, x : x + BLOCK] = palette[rng.integers(COLORS)]
    return filled


def cv2(colors: Pixels, alpha: Grey, how: Infill) -> Pixels:
    """Telea's method: colours go on inwards from the border."""
    import cv2 as opencv

    hole = np.where(alpha < 255, np.uint8(255), np.uint8(0))
    return np.asarray(opencv.inpaint(colors, hole, TELEA_RADIUS, opencv.INPAINT_TELEA), np.uint8)


def by_patches(colors: Pixels, alpha: Grey, how: Infill) -> Pixels:
    """What looks like the surroundings."""
    filled = patchmatch(colors.astype(np.float32), alpha < 255, SEED)
    return np.rint(filled).clip(0, 255).astype(np.uint8)


METHODS: Mapping[str, Callable[[Pixels, Grey, Infill], Pixels]] = MappingProxyType(
    {"solid": solid, "tile": tile, "mosaic": mosaic, "cv2": cv2, "patchmatch": by_patches}
)


def _corners(alpha: Grey, size: int) -> list[tuple[int, int]]:
    """The upper left corners of squares that cover a picture, row by row."""
    height, width = alpha.shape
    return [(y, x) for y in range(0, height, size) for x in range(0, width, size)]


def _is_whole(alpha: npt.NDArray[np.uint8], size: int) -> bool:
    return alpha.shape == (size, size) and bool((alpha == 255).all())
