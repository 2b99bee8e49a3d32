"""Guidance: from what a denoiser says about both prompts to what it should have said. Called by the lanes."""

from __future__ import annotations

from torch import Tensor


def guided(prediction: Tensor, scale: float, rescale: float) -> Tensor:
    """One row of a lane's rows: the negative prompt's, then the prompt's; a single row is the prompt's own.

    `rescale`, 0 … 1, is how far the spread that guidance adds is taken back (Lin et al. 2023, section 3.4).
    """
    if len(prediction) == 1:
        return prediction
    negative, positive = prediction.chunk(2)
    strong = negative + scale * (positive - negative)
    if not rescale:
        return strong
    return rescale * (strong * (positive.std() / strong.std())) + (1 - rescale) * strong
