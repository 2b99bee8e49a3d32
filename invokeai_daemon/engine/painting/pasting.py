"""Pasting: an original put back over what was painted into it, and what was painted brought to its colours.

Arithmetic of pixels without any model. Called by the modes that paint into pictures.
"""

from __future__ import annotations

import numpy as np
import PIL.Image
from scipy import ndimage

from invokeai_daemon.engine.painting.masks import KEPT, Grey, Pixels, grown

#: A VAE lets what is painted show through as far as this, in pixels: two latents. Colours are compared farther away.
SHINES_THROUGH = 16
#: Values, 0 … 255. What is kept and spreads less has too little contrast to tell that of the painted part.
FLAT = 8.0


def pasted(original: Pixels, made: Pixels, keep: Grey, blur: int) -> Pixels:
    """The original where the mask keeps it, bit for bit, and what was made elsewhere.

    Over `blur` pixels beside what is kept, what was made is moved by as much as it differs from the original there, so
    that no edge is seen. Grey values of the mask mix both.
    """
    if blur:
        made = _brought_near(original, made, keep, blur)
    over, under, share = (PIL.Image.fromarray(each) for each in (original, made, keep))
    return np.asarray(PIL.Image.composite(over, under, share))


def _brought_near(original: Pixels, made: Pixels, keep: Grey, blur: int) -> Pixels:
    is_kept = keep == KEPT
    if not is_kept.any():
        return made
    distance, (rows, columns) = ndimage.distance_transform_edt(~is_kept, return_indices=True)
    away = original.astype(np.float32) - made
    # That of the nearest pixel that is kept, without the streaks that single ones would leave.
    beside = ndimage.uniform_filter(away[rows, columns], (blur + 1, blur + 1, 1), mode="nearest")
    share = (1 - distance / (blur + 1)).clip(0, 1)[..., None]
    return np.asarray(np.rint(made + share * beside).clip(0, 255), np.uint8)


def color_corrected(made: Pixels, original: Pixels, keep: Grey) -> Pixels:
    """What was made with the mean and the spread that the original has where it is kept, channel by channel.

    What it takes to bring the kept part there is done to the whole picture, so the painted part follows.
    """
    is_compared = grown(keep, SHINES_THROUGH) == KEPT
    if not is_compared.any():
        return made
    wanted, seen = original[is_compared].astype(np.float64), made[is_compared].astype(np.float64)
    spread, wanted_spread = seen.std(axis=0), wanted.std(axis=0)
    has_contrast = np.minimum(spread, wanted_spread) >= FLAT
    factor = np.divide(wanted_spread, spread, out=np.ones_like(spread), where=has_contrast)
    moved = (made - seen.mean(axis=0)) * factor + wanted.mean(axis=0)
    return np.asarray(np.rint(moved).clip(0, 255), np.uint8)
