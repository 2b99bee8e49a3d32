"""Inpainting: a part of the init image is painted anew, and the rest stays as it is.

Models that see the masked picture are shown it; with others, what is kept is put back under its noise after each step.
Called by the renderer, and by the modes that make their own scene.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from invokeai_daemon.engine.beginning import Beginning, MakeHook, beside_of, sees_masks, sees_pixels_of_masks
from invokeai_daemon.engine.decode import Picture
from invokeai_daemon.engine.hooks import Hook
from invokeai_daemon.engine.modes.refiner import After, finished
from invokeai_daemon.engine.modes.seam import seam_to_paint
from invokeai_daemon.engine.noise import first_noise, seeded
from invokeai_daemon.engine.painting.masks import Pixels, painted_latents, resized
from invokeai_daemon.engine.painting.pasting import color_corrected, pasted
from invokeai_daemon.engine.painting.pictures import begun_with, init_of, pixels_of
from invokeai_daemon.engine.painting.scene import Scene, scene_of
from invokeai_daemon.engine.passes import Desk, Mode
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.schema.pictures import Mask, Seam


def inpaint(desk: Desk, image: Image) -> Mode:
    """Paint what the mask, or the transparency of the init image, says."""
    return (yield from painted_with_seam(desk, image, scene_of(desk, image), image.seam))


def painted_with_seam(desk: Desk, image: Image, scene: Scene, seam: Seam | None) -> Mode:
    """Paint a scene; then, with a seam, its border once more."""
    if seam is None or not seam.size:
        return (yield from painted(desk, image, scene))
    first = yield from painted(desk, image, scene, then="picture")
    again, border = seam_to_paint(image, scene, first, seam)
    return (yield from painted(desk, again, border))


def painted(desk: Desk, image: Image, scene: Scene, then: After = "finish") -> Mode:
    """Paint a scene in one pass, at the size that its mask asks for, and put back what is kept."""
    mask = image.mask or Mask()
    smaller = replace(image, width=mask.width or image.width, height=mask.height or image.height)
    seen = scene.at_size(smaller.width, smaller.height)
    made = yield from finished(desk, smaller, begun_in(desk, smaller, seen), then=then)
    return Picture(put_back(scene, made.pixels, mask), list(dict.fromkeys([*scene.warnings, *made.warnings])))


def put_back(scene: Scene, made: Pixels, mask: Mask) -> Pixels:
    """What was painted, with the colours of what is kept, and the original over it."""
    height, width = scene.keep.shape
    made = np.asarray(resized(PIL.Image.fromarray(made), width, height))
    if mask.color_correct:
        made = color_corrected(made, scene.colors, scene.keep)
    return pasted(scene.colors, made, scene.keep, mask.blur) if mask.paste_back else made


# What a lane begins with


def begun_in(desk: Desk, image: Image, scene: Scene) -> Beginning:
    """What a lane begins with that paints a scene: noise alone at full strength, else the scene under noise."""
    factor = desk.pipeline.pixels_per_latent
    is_painted = torch.from_numpy(painted_latents(scene.keep, factor).copy())[None, None].to(desk.pipeline.device)
    pixels = pixels_of(PIL.Image.fromarray(scene.colors))
    if sees_masks(desk.pipeline):
        # As in diffusers, where FLUX.1 Fill draws the latents of the picture also where nothing of it is to be seen.
        is_new = _is_new(image) and not sees_pixels_of_masks(desk.pipeline)
        begun = _begun_from_noise(desk, image) if is_new else begun_with(desk, image, pixels)
        return replace(begun, beside=_beside(desk, image, scene, begun))
    begun = begun_with(desk, image, pixels)
    assert begun.latents is not None and begun.drawn is not None
    noise, generator = begun.drawn
    # As in diffusers, whose pipeline draws the latents of the masked picture here also where no model sees them.
    torch.randn(noise.shape, generator=generator)
    hooks = (keeping(begun.latents, noise.to(begun.latents), is_painted),)
    return replace(begun, latents=None if _is_new(image) else begun.latents, hooks=hooks)


def _is_new(image: Image) -> bool:
    """Whether nothing of what is painted over is to be seen in the result."""
    return init_of(image).strength == 1 and not image.denoising_start


def _begun_from_noise(desk: Desk, image: Image) -> Beginning:
    return Beginning(
        drawn=first_noise(image, desk.pipeline.latent_shape(image.width, image.height), seeded(image.seed))
    )


def _beside(desk: Desk, image: Image, scene: Scene, begun: Beginning) -> Tensor:
    """What a model sees that was trained to paint into pictures: where to paint, and the picture without that part."""
    assert begun.drawn is not None
    is_kept = torch.from_numpy(scene.keep >= 128)
    masked = pixels_of(PIL.Image.fromarray(scene.colors)) * is_kept
    latents = desk.encode(masked, image, begun.drawn[1])
    return beside_of(desk.pipeline, ~is_kept[None, None], latents)


def keeping(latents: Tensor, noise: Tensor, is_painted: Tensor) -> MakeHook:
    """Puts back what is kept after each step: the latents of the init image under the noise of the next step.

    It is the same noise in all steps, since solvers of higher order look back at earlier ones.
    """

    def make(scheduler: Any, _: Tensor, timesteps: Tensor) -> Hook:
        if getattr(scheduler, "begin_index", 0) is None:
            # Noise is then that of the step that comes, also where a scheduler looks at a timestep twice.
            scheduler.set_begin_index(0)

        def keep(stepped: Tensor, index: int, count: int) -> Tensor:
            following = timesteps[index + 1 : index + 2]
            if index + 1 == count:
                # A run that ends early goes on with another model.
                following = scheduler.timesteps[scheduler.timesteps < timesteps[index]][:1]
            kept = scheduler.add_noise(latents, noise, following) if len(following) else latents
            return torch.where(is_painted, stepped, kept)

        return keep

    return make
