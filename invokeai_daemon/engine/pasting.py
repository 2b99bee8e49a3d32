"""Pasting: an original put back over what was painted into it, and the painted part brought to its colours.

Arithmetic of pixels without any model. Called by the modes that paint into pictures.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import PIL.Image

from invokeai_daemon.engine.masks import Grey, Pixels


def pasted(original: Pixels, painted: Pixels, share: Grey) -> Pixels:
    """The original over what was painted. Where its share is 255, its pixels stay as they are, bit for bit."""
    over, under, mask = (PIL.Image.fromarray(each) for each in (original, painted, share))
    return np.asarray(PIL.Image.composite(over, under, mask))


def color_corrected(painted: Pixels, original: Pixels, is_kept: npt.NDArray[np.bool_]) -> Pixels:
    """A painted picture whose kept part has the mean and the spread of the original's, channel by channel.

    What that takes is done to the whole picture, so the painted part follows.
    """
    if not is_kept.any():
        return painted
    wanted, seen = original[is_kept].astype(np.float64), painted[is_kept].astype(np.float64)
    spread = seen.std(axis=0)
    # Where all that is seen is one value, there is nothing to stretch.
    factor = np.divide(wanted.std(axis=0), spread, out=np.ones_like(spread), where=spread > 0)
    moved = (painted - seen.mean(axis=0)) * factor + wanted.mean(axis=0)
    return np.asarray(np.rint(moved).clip(0, 255), np.uint8)
