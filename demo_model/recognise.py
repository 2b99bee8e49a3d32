"""Recognise what a demo picture shows, by colours and outlines alone: the judge of the evaluation.

The background colour is read at the border, the shape's colour where the picture differs from it, and the shape is
the one whose outline overlaps best. Never imports torch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo_model.scenes import COLOURS, SHAPES, SIZE, Scene, shape_mask

NAMES = tuple(COLOURS)
PALETTE = np.array([COLOURS[name] for name in NAMES], dtype=np.float32)
TILTS = (-8, -4, 0, 4, 8)
#: Outlines are compared on a square of this many pixels, with this much of it filled when the shape has area 1.
FRAME = 48
#: Less overlap than this with every outline is no shape at all.
LEAST_OVERLAP = 0.70

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Recognised:
    """What was seen, and how well the outline fits (intersection over union, 0…1)."""

    scene: Scene
    overlap: float


def recognise(picture: Image.Image) -> Recognised | None:
    """The scene in a picture; None when there is no shape that can be told."""
    pixels = np.asarray(picture.convert("RGB").resize((SIZE, SIZE)), dtype=np.float32)
    background = _commonest(_border(pixels))
    foreground = _distances(pixels).argmin(axis=-1)
    inner = [name for name in (NAMES[i] for i in foreground[8:-8, 8:-8].ravel()) if name != background]
    if not inner:
        return None
    colour = Counter(inner).most_common(1)[0][0]
    mask = _nearer(pixels, colour, background)
    fitted = _fitted(mask)
    if fitted is None:
        return None
    overlap, shape = max((_overlap(fitted, outline), name) for name, outline in _outlines())
    return Recognised(Scene(shape, colour, background), overlap) if overlap >= LEAST_OVERLAP else None


def is_right(picture: Image.Image, wanted: Scene) -> bool:
    """Whether shape, colour and background are all as asked."""
    seen = recognise(picture)
    return seen is not None and seen.scene == wanted


def _border(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([pixels[:3].reshape(-1, 3), pixels[-3:].reshape(-1, 3), pixels[:, :3].reshape(-1, 3)])


def _distances(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(((pixels[..., None, :] - PALETTE) ** 2).sum(axis=-1))


def _commonest(pixels: NDArray[np.float32]) -> str:
    return NAMES[Counter(_distances(pixels).argmin(axis=-1).tolist()).most_common(1)[0][0]]


def _nearer(pixels: NDArray[np.float32], colour: str, background: str) -> Mask:
    """Where a pixel lies nearer to `colour` than to `background`."""
    near, far = (((pixels - np.array(COLOURS[name])) ** 2).sum(axis=-1) for name in (colour, background))
    return np.asarray(near < far)


def _fitted(mask: Mask) -> Mask | None:
    """The mask moved to the middle and scaled to a standard area; None when it is nearly empty or full."""
    area = int(mask.sum())
    if not 40 < area < 0.8 * mask.size:
        return None
    rows, columns = np.nonzero(mask)
    scale = (0.5 * FRAME) / np.sqrt(area)
    size = mask.shape[0]
    # An affine map from the frame back to the picture: x = (u − FRAME/2) / scale + column mean.
    back = (1 / scale, 0, columns.mean() + 0.5 - FRAME / 2 / scale, 0, 1 / scale, rows.mean() + 0.5 - FRAME / 2 / scale)
    image = Image.fromarray(mask.astype(np.uint8) * 255).resize((size, size))
    moved = image.transform((FRAME, FRAME), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)
    return np.asarray(moved) > 127


@lru_cache(maxsize=1)
def _outlines() -> tuple[tuple[str, Mask], ...]:
    outlines = []
    for shape in SHAPES:
        for tilt in TILTS:
            drawn = shape_mask(shape, 4 * SIZE, (2 * SIZE, 2 * SIZE), 1.4 * SIZE, tilt)
            fitted = _fitted(np.asarray(drawn) > 127)
            assert fitted is not None
            outlines.append((shape, fitted))
    return tuple(outlines)


def _overlap(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())
