"""Text to image: nothing but noise and a prompt."""

from __future__ import annotations

from invokeai_daemon.engine.modes.refiner import finished
from invokeai_daemon.engine.passes import Desk, Mode
from invokeai_daemon.job.plan import Image


def text_to_image(desk: Desk, image: Image) -> Mode:
    """One pass from noise."""
    return (yield from finished(desk, image))
