"""Masks: which part of a picture is painted and which is kept. 0 is painted, 255 is kept, as in InvokeAI.

Arithmetic of pixels without any model. Called by the modes that paint into pictures.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import PIL.Image
from scipy import ndimage

#: [height, width], of a mask or of an alpha channel.
Grey = npt.NDArray[np.uint8]
#: [height, width, 3]
Pixels = npt.NDArray[np.uint8]

KEPT = 255
#: Thresholds of the Canny filter that finds the border of a mask.
EDGES = (100, 200)


def mask_in(picture: PIL.Image.Image) -> PIL.Image.Image:
    """The mask that a picture holds, as L: its transparency, or its brightness where nothing is transparent."""
    if picture.has_transparency_data:
        alpha = picture.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (KEPT, KEPT):
            return alpha
        picture = picture.convert("RGB")
    if picture.mode.startswith("I;16"):
        return PIL.Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return picture.convert("L")


def resized(picture: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
    """A picture or a mask at another size. The colours of transparent pixels are kept, as far as there are any."""
    if picture.size == (width, height):
        return picture
    if picture.mode == "L":
        # What is sharper would leave waves beside an edge, and nothing near it would be kept whole.
        return picture.resize((width, height), PIL.Image.Resampling.BILINEAR)
    if picture.mode == "RGBA":
        # As one, Pillow would darken what is transparent until nothing is left of it.
        colors = resized(picture.convert("RGB"), width, height)
        colors.putalpha(resized(picture.getchannel("A"), width, height))
        return colors
    return picture.resize((width, height), PIL.Image.Resampling.LANCZOS)


def are_erased(colors: Pixels, alpha: Grey) -> bool:
    """Whether nothing is left under the fully transparent pixels: all are black, or all are white."""
    hidden = colors[alpha == 0]
    return bool(len(hidden)) and bool((hidden == 0).all() or (hidden == 255).all())


def grown(keep: Grey, pixels: int) -> Grey:
    """A mask whose painted part is larger by so many pixels on each side, or smaller where they are negative."""
    if not pixels:
        return keep
    spread = ndimage.minimum_filter if pixels > 0 else ndimage.maximum_filter
    return np.asarray(spread(keep, size=2 * abs(pixels) + 1, mode="nearest"), np.uint8)


def multiplied(one: Grey, other: Grey) -> Grey:
    """What both keep. Two grey values keep less than each of them, and only what is white in both is kept whole."""
    return ((one.astype(np.uint16) * other + 127) // 255).astype(np.uint8)


def painted_latents(keep: Grey, factor: int) -> npt.NDArray[np.bool_]:
    """Where the latents are painted, [height / factor, width / factor]: what is more black than white.

    A latent goes by the upper left of its pixels, as in diffusers.
    """
    return (keep < 128)[::factor, ::factor]


def uncovered(keep: Grey) -> float:
    """The share of the painted pixels whose latents are kept, 0 … 1."""
    is_painted = keep < 128
    covered = painted_latents(keep, 8).repeat(8, 0).repeat(8, 1)[: keep.shape[0], : keep.shape[1]]
    return float((is_painted & ~covered).sum() / max(1, is_painted.sum()))


def seam_of(keep: Grey, size: int, blur: int) -> Grey:
    """A mask that paints the border between what is kept and what is painted, so many pixels wide."""
    import cv2

    partly = ((keep > 0) & (keep < KEPT)).astype(np.uint8) * 255
    border = np.maximum(partly, np.asarray(cv2.Canny(keep, *EDGES), np.uint8))
    return blurred(grown(KEPT - border, size // 2), blur)


def blurred(mask: Grey, radius: int) -> Grey:
    """The mean of the pixels that are no farther away, across and along."""
    mean = ndimage.uniform_filter(mask.astype(np.float32), size=2 * radius + 1, mode="nearest")
    return np.asarray(np.rint(mean).clip(0, 255), np.uint8)
