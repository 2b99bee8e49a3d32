"""Text to image: nothing but noise and a prompt."""

from __future__ import annotations

from invokeai_daemon.engine.passes import Desk, Mode, Pass
from invokeai_daemon.job.plan import Image


def text_to_image(desk: Desk, image: Image) -> Mode:
    """One pass from noise."""
    made = yield Pass(image)
    return made.shown
