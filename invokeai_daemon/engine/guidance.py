"""Guidance: from what a denoiser says about both prompts to what it should have said. Called by the lanes."""

from __future__ import annotations

from torch import Tensor


def guided(prediction: Tensor, scale: float, rescale: float, picture_scale: float | None = None) -> Tensor:
    """One row of a lane's rows: the negative prompt's, then the prompt's; a single row is the prompt's own.

    Where a picture guides too, by `picture_scale`, three rows: of neither, of the picture, of picture and prompt
    (Brooks et al. 2023, section 3.2.1). `rescale`, 0 … 1, is how far the spread that guidance adds is taken back (Lin
    et al. 2023, section 3.4).
    """
    if len(prediction) == 1:
        return prediction
    *others, negative, positive = prediction.chunk(len(prediction))
    strong = negative + scale * (positive - negative)
    if others and picture_scale is not None:
        [neither] = others
        strong = strong + (picture_scale - 1) * (negative - neither)
    if not rescale:
        return strong
    return rescale * (strong * (positive.std() / strong.std())) + (1 - rescale) * strong
