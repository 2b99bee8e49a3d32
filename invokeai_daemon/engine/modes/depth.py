"""Depth: the init image made anew in its own depth, by Stable Diffusion 2's model that sees a depth map."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from invokeai_daemon.engine.modes.refiner import finished
from invokeai_daemon.engine.painting.depth import estimated_depth
from invokeai_daemon.engine.painting.pictures import begun_with, grey, init_of, init_picture, pixels_of
from invokeai_daemon.engine.passes import Desk, Mode
from invokeai_daemon.job.plan import Image


def depth_to_image(desk: Desk, image: Image) -> Mode:
    """One pass from the init image, beside its depth."""
    picture = init_picture(desk, image).convert("RGB")
    asked = init_of(image).depth
    depth = (
        torch.from_numpy(grey(desk.open(asked)).copy())
        if asked is not None
        else estimated_depth(desk.pipeline, picture)
    )
    beginning = begun_with(desk, image, pixels_of(picture))
    beside = depth_map(depth, desk.pipeline.latent_shape(image.width, image.height)[-2:])
    return (yield from finished(desk, image, replace(beginning, beside=beside.to(desk.pipeline.device))))


def depth_map(depth: Tensor, size: tuple[int, int]) -> Tensor:
    """Depths of any scale, [height, width], nearer is more, as the model sees them: [1, 1, *size], −1 … 1."""
    resized = functional.interpolate(depth[None, None].float(), size, mode="bicubic", align_corners=False)
    far, near = resized.min(), resized.max()
    if far == near:
        return torch.zeros_like(resized)
    return 2 * (resized - far) / (near - far) - 1
