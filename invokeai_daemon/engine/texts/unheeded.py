"""Unheeded: what an image asks for that its model knows nothing of. It is no mistake, and the result says so.

Called when a lane starts. What would make a wrong picture is refused by the planner instead.
"""

from __future__ import annotations

from invokeai_daemon.engine.denoisers import UNet
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.prompt.understand import understood

WEIGHTS = "this model reads the words of a prompt alone: weights, blends and .and() have no effect"
SEAMLESS = "seamless edges need a model with convolutions; of this one only the VAE makes edges meet"
GUIDANCE = "this model was not distilled to be told a guidance: it has no effect; cfg_scale has"


def unheeded(pipeline: Pipeline, image: Image) -> list[str]:
    """Warnings about an image that begins."""
    seen = understood(image)
    trees = [seen.positive] if image.cfg_scale == 1 else [seen.positive, seen.negative]
    found = {
        WEIGHTS: not pipeline.prompts.is_weighing and any(tree.plain_text is None for tree in trees),
        SEAMLESS: any(image.seamless) and not isinstance(pipeline.denoiser, UNet),
        GUIDANCE: image.guidance is not None and not pipeline.denoiser.model.config.get("guidance_embeds"),
    }
    return [warning for warning, is_so in found.items() if is_so]
