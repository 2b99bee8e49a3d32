"""Seamless: pictures whose opposite edges meet. While a model is seamless, its convolutions look around the edges.

Called around each forward of the denoiser and of the decoder, which lanes share only with lanes of the same axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

#: Whether opposite edges meet: left and right; top and bottom.
Axes = tuple[bool, bool]


@contextmanager
def seamless(model: nn.Module, axes: Axes) -> Iterator[None]:
    """The model's convolutions reach around the edges of these axes; afterwards it is as it was."""
    padded = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and _reach(layer)] if any(axes) else []
    for layer in padded:
        # On the layer itself, which hides the method of its class; all that a steady layer does around it stays.
        layer._conv_forward = partial(_around, layer, axes)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in padded:
            del layer._conv_forward


def _reach(layer: nn.Conv2d) -> bool:
    return any(layer._reversed_padding_repeated_twice)


def _around(layer: nn.Conv2d, axes: Axes, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    left, right, top, bottom = layer._reversed_padding_repeated_twice
    for sides, is_circular in zip(((left, right, 0, 0), (0, 0, top, bottom)), axes, strict=True):
        input = functional.pad(input, sides, mode="circular" if is_circular else "constant")
    return functional.conv2d(input, weight, bias, layer.stride, 0, layer.dilation, layer.groups)
