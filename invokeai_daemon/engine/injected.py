"""Injected: what is added to a UNet's own values during one forward. Made by `controls/`, taken by the denoiser."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Injected:
    """What ControlNets and T2I-Adapters add to the values of a UNet, each with the rows of the forward."""

    #: To what the way down hands over to the way up, one for each; empty where no ControlNet counts.
    down: tuple[Tensor, ...] = ()
    #: To the values in the middle; there exactly if `down` is.
    middle: Tensor | None = None
    #: To the values at the end of each block of the way down, within it; empty where no T2I-Adapter counts.
    features: tuple[Tensor, ...] = ()
