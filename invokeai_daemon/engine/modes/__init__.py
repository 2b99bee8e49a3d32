"""Modes: what kinds of pictures can be asked for, and how each is made. One module for each.

The renderer asks `mode_of` when an image starts.
"""

from __future__ import annotations

from collections.abc import Callable

from invokeai_daemon.engine.modes.colored import has_colors, in_colors
from invokeai_daemon.engine.modes.depth import depth_to_image
from invokeai_daemon.engine.modes.edit import edit
from invokeai_daemon.engine.modes.hires import hires
from invokeai_daemon.engine.modes.image import image_to_image
from invokeai_daemon.engine.modes.inpaint import inpaint
from invokeai_daemon.engine.modes.outpaint import outpaint
from invokeai_daemon.engine.modes.text import text_to_image
from invokeai_daemon.engine.passes import Desk, Mode
from invokeai_daemon.job.plan import Image, ModelRef

#: Which images of which models are made how; the first that fits.
MODES: tuple[tuple[Callable[[Image, ModelRef], bool], Callable[[Desk, Image], Mode]], ...] = (
    (lambda image, model: image.init is not None and image.outpaint is not None, outpaint),
    (lambda image, model: image.init is not None and image.mask is not None, inpaint),
    (lambda image, model: image.init is not None and model.variant == "edit", edit),
    (lambda image, model: image.init is not None and model.variant == "depth", depth_to_image),
    (lambda image, model: image.hires is not None, hires),
    (lambda image, model: image.init is not None, image_to_image),
    (lambda image, model: True, text_to_image),
)


def mode_of(image: Image, model: ModelRef) -> Callable[[Desk, Image], Mode]:
    """How an image is made with a model."""
    mode = next(mode for asks, mode in MODES if asks(image, model))
    return in_colors(mode) if has_colors(image) else mode
