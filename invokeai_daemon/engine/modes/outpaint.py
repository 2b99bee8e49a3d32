"""Outpainting: the init image on a larger canvas, of which the rest is painted. Its own pixels stay as they are.

Called by the renderer.
"""

from __future__ import annotations

import PIL.Image

from invokeai_daemon.engine.modes.inpaint import painted_with_seam
from invokeai_daemon.engine.modes.seam import usual_seam
from invokeai_daemon.engine.painting.masks import KEPT
from invokeai_daemon.engine.painting.pictures import init_of, plain
from invokeai_daemon.engine.painting.scene import Scene, composed, mask_of
from invokeai_daemon.engine.passes import Desk, Mode
from invokeai_daemon.job.fitting import Canvas, outpainted
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.schema.pictures import Outpaint


def outpaint(desk: Desk, image: Image) -> Mode:
    """Paint around the init image, then the border."""
    seam = usual_seam(image.width, image.height) if image.seam is None else image.seam
    return (yield from painted_with_seam(desk, image, extended(desk, image), seam))


def extended(desk: Desk, image: Image) -> Scene:
    """The scene of an image that extends its init image. A mask is the init image's, and says what else is painted."""
    picture = plain(desk.open(init_of(image).image))
    canvas = outpainted(picture.size, image.outpaint or Outpaint())
    mask = mask_of(desk, image, picture)
    return composed(_on(canvas, picture.convert("RGBA"), "RGBA"), _on(canvas, mask, "L"), image, is_alpha=False)


def _on(canvas: Canvas, picture: PIL.Image.Image, mode: str) -> PIL.Image.Image:
    """A picture on a canvas, which is transparent."""
    whole = PIL.Image.new(mode, (canvas.width, canvas.height), KEPT if mode == "L" else 0)
    whole.paste(picture, (canvas.left, canvas.top))
    return whole
