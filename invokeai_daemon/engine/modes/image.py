"""Image to image: the init image under as much noise as it shall change, and a prompt."""

from __future__ import annotations

from invokeai_daemon.engine.modes.inpaint import inpaint
from invokeai_daemon.engine.modes.refiner import finished
from invokeai_daemon.engine.painting.pictures import begun_with, init_picture, pixels_of
from invokeai_daemon.engine.passes import Desk, Mode
from invokeai_daemon.job.plan import Image


def image_to_image(desk: Desk, image: Image) -> Mode:
    """One pass from the init image; what is transparent in it is painted, and the rest kept."""
    picture = init_picture(desk, image)
    if picture.mode == "RGBA":
        return (yield from inpaint(desk, image))
    return (yield from finished(desk, image, begun_with(desk, image, pixels_of(picture))))
