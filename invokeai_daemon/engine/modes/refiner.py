"""The refiner: how every mode ends. With `[refiner]`, another model makes the end of the last pass; else there is none.

Called by the modes for their last pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from invokeai_daemon.engine.beginning import FROM_NOISE, Beginning
from invokeai_daemon.engine.decode import Picture
from invokeai_daemon.engine.passes import Desk, Mode, Pass
from invokeai_daemon.engine.scheduling.schedulers import part_of_run
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.schema.pictures import Refiner

After = Literal["picture", "finish"]
NOTHING_LEFT = "none of the steps was left to the refiner; ask for more steps, or lower the refiner's start"


def finished(desk: Desk, image: Image, beginning: Beginning = FROM_NOISE, then: After = "finish") -> Mode:
    """The last pass of an image, and the refiner's after it if the image asks for one.

    `then` is "picture" where the mode goes on with what they show.
    """
    if image.refiner is None:
        made = yield Pass(image, beginning, then=then)
        return made.shown
    return (yield from _shared(desk, image, image.refiner, beginning, then))


def _shared(desk: Desk, image: Image, refiner: Refiner, beginning: Beginning, then: After) -> Mode:
    """The run in two parts, of which one may have no step."""
    model = desk.plan.reference("main", refiner.model)
    begun = replace(image, denoising_end=min(refiner.start, image.denoising_end))
    refined = _as_refined(replace(image, denoising_start=max(refiner.start, image.denoising_start)))
    if not _has_steps(desk, refined, beginning.strength if image.denoising_start >= refiner.start else 1.0):
        made = yield Pass(image, beginning, then=then)
        return Picture(made.shown.pixels, [*made.shown.warnings, NOTHING_LEFT])
    if not _has_steps(desk, begun, beginning.strength):
        # What is seen beside the latents is for a base model that was trained to see it.
        alone = replace(beginning, beside=None, picture_scale=None)
        made = yield Pass(replace(refined, denoising_start=image.denoising_start), alone, model, then)
        return made.shown
    half = yield Pass(begun, beginning, then="latents")
    made = yield Pass(refined, Beginning(half.latents, is_noisy=True, hooks=beginning.hooks), model, then)
    return made.shown


def _as_refined(image: Image) -> Image:
    """The image without what is for the base model, or is done once."""
    return replace(
        image,
        loras=(),
        controlnets=(),
        t2i_adapters=(),
        ip_adapters=(),
        clip_skip=0,
        h_symmetry_time_pct=0.0,
        v_symmetry_time_pct=0.0,
    )


def _has_steps(desk: Desk, image: Image, strength: float) -> bool:
    scheduler = desk.pipeline.schedulers.new(image.scheduler, image.steps)
    return len(part_of_run(scheduler, image.denoising_start, image.denoising_end, strength)) > 0
