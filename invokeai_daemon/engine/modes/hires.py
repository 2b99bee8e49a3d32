"""Hires fix: a picture larger than the model's own size in two passes, made small, then enlarged and made anew in part.

Made at once in a large size, a picture has the things of its prompt several times.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.nn import functional

from invokeai_daemon.engine.beginning import Beginning
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.modes.refiner import finished
from invokeai_daemon.engine.noise import draw, first_noise, seeded
from invokeai_daemon.engine.passes import Desk, Mode, Pass
from invokeai_daemon.job.fitting import first_size
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.usual import usual


def hires(desk: Desk, image: Image) -> Mode:
    """A pass at about the model's own size, then one from its enlarged latents."""
    assert image.hires is not None
    side = image.hires.size or trained_side(desk.pipeline)
    width, height = first_size((image.width, image.height), side)
    small = replace(image, width=width, height=height, denoising_end=1.0)
    made = yield Pass(small, then="latents")
    large = replace(image, perlin=0.0, h_symmetry_time_pct=0.0, v_symmetry_time_pct=0.0, denoising_start=0.0)
    shape = desk.pipeline.latent_shape(image.width, image.height)
    enlarged = functional.interpolate(made.latents, shape[-2:], mode="bilinear")
    # Fresh noise: what the seed draws after that of the first pass.
    generator = seeded(image.seed)
    draw(generator, made.latents.shape, image.perlin)
    drawn = first_noise(large, shape, generator)
    return (yield from finished(desk, large, Beginning(enlarged, strength=image.hires.strength, drawn=drawn)))


def trained_side(pipeline: Pipeline) -> int:
    """The side in pixels of the squares that a model was trained on."""
    latents: Any = pipeline.denoiser.model.config.get("sample_size")
    if isinstance(latents, int):
        return latents * pipeline.pixels_per_latent
    model = pipeline.model
    return usual(model.base, model.variant, model.prediction_type).side
