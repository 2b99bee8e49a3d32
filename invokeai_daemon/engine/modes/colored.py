"""Colored: any mode, and then the colours of another picture: of `init_color`, or of the init image."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from invokeai_daemon.engine.decode import Picture
from invokeai_daemon.engine.painting.colors import with_colors_of
from invokeai_daemon.engine.painting.pictures import plain
from invokeai_daemon.engine.passes import Desk, Mode
from invokeai_daemon.job.plan import Image


def in_colors(mode: Callable[[Desk, Image], Mode]) -> Callable[[Desk, Image], Mode]:
    """A mode whose pictures get the colours that the image asks for."""

    def made(desk: Desk, image: Image) -> Mode:
        picture = yield from mode(desk, image)
        pixels = picture.pixels
        for asked in references(image):
            pixels = with_colors_of(pixels, np.asarray(plain(desk.open(asked)).convert("RGB")))
        return Picture(pixels, picture.warnings)

    return made


def has_colors(image: Image) -> bool:
    """Whether an image asks for the colours of another picture."""
    return next(references(image), None) is not None


def references(image: Image) -> Iterator[str]:
    """The pictures whose colours an image gets, one after another."""
    # What a mask keeps has the init image's colours, and painted parts are brought to them by the mask's own means.
    if image.init is not None and image.init.color_match and image.mask is None and image.outpaint is None:
        yield image.init.image
    if image.init_color is not None:
        yield image.init_color
