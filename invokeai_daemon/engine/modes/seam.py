"""Seam: the border between what was kept and what was painted is painted once more, so that both meet.

Called by inpainting and outpainting after their first pass.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from invokeai_daemon.engine.decode import Picture
from invokeai_daemon.engine.painting.masks import KEPT, seam_of
from invokeai_daemon.engine.painting.pictures import init_of
from invokeai_daemon.engine.painting.scene import Scene
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.schema import MAX_SEED
from invokeai_daemon.job.schema.pictures import Mask, Seam

#: The shorter side of a picture for which a seam is as wide as it is when nobody says how wide; in a smaller one it is
#: as much narrower.
USUAL_SIDE = 512


def usual_seam(width: int, height: int) -> Seam:
    """The seam of a picture for which nobody asked for one in particular."""
    share, usual = min(1.0, min(width, height) / USUAL_SIDE), Seam()
    return Seam(size=round(share * usual.size), blur=round(share * usual.blur))


def seam_to_paint(image: Image, scene: Scene, first: Picture, seam: Seam) -> tuple[Image, Scene]:
    """The pass over the border of a scene, whose first picture is there, and the scene that it paints."""
    mask = image.mask or Mask()
    keep = seam_of(scene.keep, seam.size, seam.blur)
    if mask.paste_back:
        keep = np.where(scene.keep == KEPT, scene.keep, keep)
    border = Scene(first.pixels, keep, tuple(first.warnings))
    init = init_of(image).model_copy(update={"strength": seam.strength})
    # Another seed, since the noise of the first pass would bring out again what that pass has made.
    again = replace(
        image,
        seed=(image.seed + 1) % (MAX_SEED + 1),
        variations=(),
        steps=seam.steps,
        denoising_start=0.0,
        denoising_end=1.0,
        init=init,
        mask=mask.model_copy(update={"width": None, "height": None}),
        refiner=None,
    )
    return again, border
