"""Decode: finished latents to pixels. Runs in a thread of its own, so that the next denoise step does not wait for it.

Called by the renderer with lanes that are done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from invokeai_daemon.engine.lanes import Lane

#: Latents of one decoding: 4 pictures of 64 × 64 on a CPU, beyond which its caches overflow and the first one waits.
CPU_LATENTS = 4 * 8 * 8
ACCELERATOR_LATENTS = 8 * 64 * 64
#: Pictures whose brightest and darkest values are this close show nothing.
FLAT_RANGE = 2

OVERFLOWED = "the VAE overflowed and was run again in float32"
NOT_A_NUMBER = (
    'the model produced values that are no numbers, shown black; set [render] precision = "float32", or try another '
    "scheduler, a smaller cfg_scale or smaller weights of what is attached"
)
FLAT = "the picture is one flat colour; the model, its VAE or the values may not fit together"


@dataclass(eq=False)
class Picture:
    """The pixels of one image."""

    #: [height, width, 3]
    pixels: npt.NDArray[np.uint8]
    warnings: list[str]


def decode_limit(lane: Lane) -> int:
    """How many lanes like this one should be decoded together, at least 1."""
    room = CPU_LATENTS if lane.pipeline.device.type == "cpu" else ACCELERATOR_LATENTS
    return max(1, room // math.prod(lane.latents.shape[-2:]))


def decode(lanes: Sequence[Lane], tiled: bool = False) -> list[Picture]:
    """The pictures of lanes that are done. All have the same group and VAE. Raises what the VAE raises."""
    latents = torch.cat([lane.latents for lane in lanes])
    values, overflowed = lanes[0].vae.decode(latents, lanes[0].image.seamless, tiled)
    warnings = [OVERFLOWED] if overflowed else []
    return [_picture(value, [*lane.warnings, *warnings]) for lane, value in zip(lanes, values, strict=True)]


def _picture(values: Tensor, warnings: list[str]) -> Picture:
    # The arithmetic of diffusers' image processor, so that rounding falls the same way.
    shown = (values.float() * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0).cpu()
    pixels = np.ascontiguousarray((torch.nan_to_num(shown, nan=0.0).numpy() * 255).round().astype(np.uint8))
    if not torch.isfinite(values).all():
        warnings = [*warnings, NOT_A_NUMBER]
    elif int(pixels.max()) - int(pixels.min()) < FLAT_RANGE:
        warnings = [*warnings, FLAT]
    return Picture(pixels, warnings)
