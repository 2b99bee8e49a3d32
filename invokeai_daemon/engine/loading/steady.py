"""Steady layers: on a CPU, an image's bits do not depend on how many others share its forward.

torch picks another kernel, with another order of summation, for one row than for several, and for few rows of a matrix
than for many, and divides what there is among threads wherever a row may be. The differences are in the last bits, but
they grow over the steps and flip pixels, so a job that shared its forwards would not give identical pixels when it is
rendered again alone. Each layer here sees to it that the same kernel runs for every number of rows. Called when a model
is loaded; a test compares the bits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers.activations import QuickGELUActivation

#: Matrix products of vectors (the timestep's path) are filled up to a multiple of this many rows.
ROW_MULTIPLE = 16
#: ATen convolves a single row of at most this many numbers without oneDNN.
SINGLE_ROW_LIMIT = 20480
#: On one thread ATen convolves fewer rows than this with 1×1 kernels without oneDNN.
POINTWISE_LIMIT = 16


class SteadyLinear(nn.Linear):
    """A Linear whose result for a vector does not depend on how many vectors there are."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() != 2:
            return super().forward(input)
        rows = len(input)
        return super().forward(pad(input, (0, 0, 0, -rows % ROW_MULTIPLE)))[:rows]


class SteadyConv2d(nn.Conv2d):
    """A Conv2d that runs the same kernel for one row as for many."""

    def forward(self, input: Tensor) -> Tensor:
        rows = len(input)
        if rows == 1 and input.numel() <= SINGLE_ROW_LIMIT:
            return super().forward(torch.cat([input, input]))[:1]
        if rows >= POINTWISE_LIMIT and self.kernel_size == (1, 1) and torch.get_num_threads() == 1:
            return torch.cat([nn.Conv2d.forward(self, part) for part in torch.split(input, POINTWISE_LIMIT - 1)])
        return super().forward(input)


class SteadySiLU(nn.SiLU):
    """A SiLU that divides every row among the threads in the same way."""

    def forward(self, input: Tensor) -> Tensor:
        return _row_by_row(super().forward, input)


class SteadyQuickGELU(QuickGELUActivation):  # type: ignore[misc]
    """A QuickGELU that divides every row among the threads in the same way."""

    def forward(self, input: Tensor) -> Tensor:
        return _row_by_row(super().forward, input)


def _row_by_row(function: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
    # What is left over at the end of a thread's share is computed one by one, with another exponential.
    if torch.get_num_threads() == 1:
        return function(input)
    return torch.cat([function(row) for row in torch.split(input, 1)])


STEADY: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: SteadyLinear,
    nn.Conv2d: SteadyConv2d,
    nn.SiLU: SteadySiLU,
    QuickGELUActivation: SteadyQuickGELU,
}


def make_steady(model: nn.Module) -> None:
    """Give the layers of a model their steady behaviour. Names, weights and state dict stay as they are."""
    for module in model.modules():
        steady = STEADY.get(type(module))
        if steady is not None:
            # The class is changed in place so that adapters still find every layer under its name and base class.
            module.__class__ = steady


def keep_plain_layout(attention: nn.Module) -> None:
    """Make an attention block over pixels return NCHW tensors.

    Its result otherwise looks like channels_last for several rows and like NCHW for one, and everything after it runs
    other kernels accordingly; NCHW is also a third faster in the decoders measured.
    """
    attention.register_forward_hook(lambda module, inputs, output: output.contiguous())
