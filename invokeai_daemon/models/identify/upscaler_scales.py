"""Scales: how many times a network enlarges, worked out from the shapes of its upsampling layers.

Used by the table of upscalers. Each function takes the view of a network and gives the factor, or None where the shapes
do not say it. What they work out is held against spandrel in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from invokeai_daemon.models.identify.rules import size
from invokeai_daemon.models.identify.weights import Weights

#: How much a network enlarges; None where its shapes do not say.
Scale = Callable[[Weights], "int | None"]


def one(weights: Weights) -> int | None:
    """It gives pictures of the size that it takes."""
    return 1


# How much: by the rows of the convolution before a pixel shuffle, or by the number of steps


def shuffled(stem: str) -> Scale:
    """Steps of a convolution and a pixel shuffle: each multiplies the channels by the square of its factor."""

    def scale(weights: Weights) -> int:
        factor = 1
        for step in range(0, 10, 2):
            rows, columns = (size(weights, f"{stem}.{step}.weight", axis) for axis in (0, 1))
            if not rows or not columns:
                break
            factor *= math.isqrt(rows // columns)
        return factor

    return scale


def direct(pattern: str, first: str) -> Scale:
    """One convolution to all the pixels of a block: scale² × channels rows."""
    return lambda weights: _root(size(weights, pattern, 0), size(weights, first, 1))


def _root(rows: int | None, channels: int | None) -> int | None:
    for colours in (channels, 3, 4, 1):
        if rows and colours and rows % colours == 0 and math.isqrt(rows // colours) ** 2 == rows // colours:
            return math.isqrt(rows // colours)
    return None


def as_swin(weights: Weights) -> int | None:
    """SwinIR and its kin: steps with a shuffle, one shuffle, nearest neighbour with convolutions, or none."""
    if weights.find("conv_up1.weight"):
        steps = sum(1 for _ in weights.matching("conv_up*.weight"))
        unshuffled = size(weights, "conv_first.1.weight", 1) or 3
        return int(2**steps) // math.isqrt(unshuffled // 3 or 1)
    if weights.find("conv_before_upsample.0.weight", "conv_before_upsample.weight"):
        return shuffled("upsample")(weights)
    if weights.find("upsample.0.weight"):
        return direct("upsample.0.weight", "conv_first.weight")(weights)
    return 1


def as_grl(weights: Weights) -> int | None:
    if weights.find("upsample.up.0.weight"):
        if weights.find("conv_before_upsample.0.weight"):
            return shuffled("upsample.up")(weights)
        return direct("upsample.up.0.weight", "conv_first.weight")(weights)
    return 4 if weights.find("conv_up1.weight") else 1


def as_dat(weights: Weights) -> int | None:
    if weights.find("conv_last.weight"):
        return shuffled("upsample")(weights)
    return direct("upsample.0.weight", "conv_first.weight")(weights)


def as_drct(weights: Weights) -> int | None:
    return shuffled("upsample")(weights) if weights.find("conv_last.weight") else 1


def _numbers(weights: Weights, stem: str) -> list[int]:
    """The numbers that follow a stem, in order."""
    found = {name[len(stem) :].partition(".")[0] for name in weights.matching(f"{stem}*")}
    return sorted(int(number) for number in found if number.isdigit())


def _last_of(weights: Weights, stem: str) -> str:
    numbers = _numbers(weights, stem)
    return f"{stem}{numbers[-1]}.weight" if numbers else ""


def esrgan_old(weights: Weights) -> int | None:
    """`model.N`: the trunk, three per doubling, and two convolutions around an activation."""
    numbers = _numbers(weights, "model.")
    steps = (numbers[-1] - 4) // 3
    return _unshuffled(2**steps, size(weights, "model.0.weight", 1), size(weights, f"model.{numbers[-1]}.weight", 0))


def esrgan_new(weights: Weights) -> int | None:
    steps = sum(1 for pattern in ("conv_up*.weight", "upconv*.weight") for _ in weights.matching(pattern))
    return _unshuffled(2**steps, size(weights, "conv_first.weight", 1), size(weights, "conv_last.weight", 0))


def _unshuffled(scale: int, taken: int | None, given: int | None) -> int | None:
    """Real-ESRGAN takes 4 or 16 pixels as one, and enlarges so much less."""
    if taken and given and taken in (4 * given, 16 * given):
        return scale // math.isqrt(taken // given)
    return scale


def compact(weights: Weights) -> int | None:
    return _root(size(weights, _last_of(weights, "body."), 0), size(weights, "body.0.weight", 1))


def plksr(weights: Weights) -> int | None:
    rows = size(weights, _last_of(weights, "feats."), 0)
    return math.isqrt(rows // 3) if rows else None


def mosr(weights: Weights) -> int | None:
    offset, keys = size(weights, "upsampler.offset.weight", 0), size(weights, "upsampler.in_to_k.weight", 0)
    channels = size(weights, "gblocks.0.weight", 1) or 3
    if offset:
        return math.isqrt(offset // 8)
    return math.isqrt(keys // 8 // channels) if keys else _root(size(weights, "upsampler.0.weight", 0), channels)


def rcan(weights: Weights) -> int | None:
    taken, given = size(weights, "head.1.weight", 1), size(weights, "tail.1.weight", 0)
    if taken and given:
        return 4 // math.isqrt(taken // given)
    return shuffled("tail.0")(weights)


def cugan(weights: Weights) -> int | None:
    rows, taken = size(weights, "conv_final.weight", 0), size(weights, "unet1.conv1.conv.0.weight", 1)
    if rows:
        return 2 if rows == taken else 4
    return 3 if size(weights, "unet1.conv_bottom.weight", 2) == 5 else 2


def ipt(weights: Weights) -> int | None:
    return max((shuffled(f"tail.{tail}.0")(weights) or 1 for tail in _numbers(weights, "tail.")), default=1)


def mm_real(weights: Weights) -> int | None:
    return _unshuffled(4, size(weights, "conv_first.weight", 1), size(weights, "conv_last.weight", 0))


def aura(weights: Weights) -> int | None:
    rows, columns = (size(weights, "style_network.net.0.weight", axis) for axis in (0, 1))
    return rows // columns if rows and columns else None


def swift(weights: Weights) -> int | None:
    return int(2 ** len(_numbers(weights, "upsampler.")))


def codebook(weights: Weights) -> int | None:
    """As many doublings as the decoder has steps beyond those of the encoder before its attention."""
    attention = weights.find("multiscale_encoder.blocks.*.swin_blks.0.residual_group.blocks.0.*")
    if attention is None:
        return 1
    step = int(attention.name.partition("multiscale_encoder.blocks.")[2].partition(".")[0])
    return int(2 ** (weights.count("decoder_group.") - step))


def unsaid(weights: Weights) -> int | None:
    """The scale is the value of a tensor, or of a training option."""
    return None
