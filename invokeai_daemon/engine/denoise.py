"""Denoise: THE loop's step. One forward serves every lane that fits, whatever its job, prompt, seed or scheduler.

Called by the renderer, which lets lanes join and leave between two steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invokeai_daemon.engine.conditioning import Conditioning, joined
from invokeai_daemon.engine.controls.forward import Row, controlled
from invokeai_daemon.engine.lanes import Lane
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.seamless import seamless

#: Latents of one forward on a CPU: 8 images of 512 × 512 with guidance. More lanes would make all wait for nothing.
CPU_LATENTS = 16 * 64 * 64
#: The same for one gibibyte of free accelerator memory; a forward that fails nevertheless is halved.
LATENTS_PER_GIB = 12 * 64 * 64


def lane_limit(pipeline: Pipeline, width: int, height: int, max_lanes: int) -> int:
    """How many images of this size should share a forward, at least 1."""
    latents = 2 * math.prod(pipeline.latent_shape(width, height)[-2:])
    if pipeline.device.type == "cuda":
        free = torch.cuda.mem_get_info(pipeline.device)[0] + torch.cuda.memory_reserved(pipeline.device)
        room = int(LATENTS_PER_GIB * free / 2**30)
    else:
        room = CPU_LATENTS
    return max(1, min(max_lanes, room // latents))


def pick(lanes: Sequence[Lane]) -> list[Lane]:
    """The lanes that can share a forward with the first."""
    return [lane for lane in lanes if lane.group == lanes[0].group]


@torch.inference_mode()
def predict(lanes: Sequence[Lane]) -> list[Tensor]:
    """What the denoiser says about each lane's rows, from one forward. All lanes have the same group."""
    pipeline = lanes[0].pipeline
    latents = torch.cat([lane.model_input() for lane in lanes]).to(pipeline.dtype)
    conditioning = joined([lane.conditioning for lane in lanes])
    timesteps = torch.cat([lane.timestep.float().expand(lane.rows) for lane in lanes]).to(pipeline.device)
    rows = [row for lane in lanes for row in lane.controlled]
    pipeline.wardrobe.dress_denoiser(lanes[0].outfit)
    with pipeline.share.computing(), seamless(pipeline.denoiser.model, lanes[0].image.seamless):
        prediction = torch.cat(
            [
                _forward(pipeline, rows[part], latents[part], timesteps[part], conditioning.part(part))
                for part in _parts(lanes, conditioning)
            ]
        )
    return list(torch.split(prediction.float(), [lane.rows for lane in lanes]))


def _parts(lanes: Sequence[Lane], conditioning: Conditioning) -> list[slice]:
    """The rows that are computed together: all, unless memory is short."""
    return conditioning.smallest_parts if lanes[0].is_sequential else [slice(0, conditioning.rows)]


def _forward(
    pipeline: Pipeline, rows: Sequence[Row], latents: Tensor, timesteps: Tensor, conditioning: Conditioning
) -> Tensor:
    with controlled(pipeline.denoiser.model, rows, latents, timesteps, conditioning) as injected:
        return pipeline.denoiser(latents, timesteps, conditioning, injected)


@torch.inference_mode()
def denoise_step(lanes: Sequence[Lane]) -> dict[Lane, Exception]:
    """One step of every lane, with one forward. All lanes have the same group.

    Returns the lanes whose own scheduler failed. Raises what the forward raises; then no lane has moved.
    """
    failed: dict[Lane, Exception] = {}
    for lane, prediction in zip(lanes, predict(lanes), strict=True):
        try:
            lane.advance(prediction)
        # The boundary of one image: whatever its scheduler raises, its neighbours go on.
        except Exception as error:  # noqa: BLE001
            failed[lane] = error
    return failed
