"""Scene: a picture and what of it is painted. Made of what a job says about its init image and its mask.

Called by the modes that paint into pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import PIL.Image
import PIL.ImageOps

from invokeai_daemon.engine.painting.infill import infilled
from invokeai_daemon.engine.painting.masks import (
    KEPT,
    Grey,
    Pixels,
    are_erased,
    grown,
    mask_in,
    multiplied,
    resized,
    uncovered,
)
from invokeai_daemon.engine.painting.pictures import init_of, plain
from invokeai_daemon.engine.painting.text_masks import described
from invokeai_daemon.engine.passes import Desk
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.schema.pictures import Infill, Mask

PAINTS_NOTHING = "the mask paints nothing, so the picture is the init image; what is black in a mask is painted"
PAINTS_ALL = "the mask paints everything, so nothing of the init image is kept; what is white in a mask is kept"
ERASED = (
    "the colours of the transparent pixels are gone, so they were filled in before they were painted; "
    "an editor that keeps them lets the picture start from them"
)
THIN = (
    "parts of what the mask paints are thinner than the 8 pixels that the model works in, and stay as they are; "
    "let the mask grow"
)
#: Share of the painted pixels that may stay as they are without a word: borders of any shape are not all painted.
BORDER = 0.3


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and what of it is painted."""

    #: Transparent parts are filled.
    colors: Pixels
    #: 0 is painted, 255 is kept.
    keep: Grey
    warnings: tuple[str, ...] = ()

    def at_size(self, width: int, height: int) -> Scene:
        """The scene for a pass at another size."""
        if self.keep.shape == (height, width):
            return self
        pictures = (PIL.Image.fromarray(each) for each in (self.colors, self.keep))
        colors, keep = (np.asarray(resized(each, width, height)) for each in pictures)
        return Scene(colors, keep, self.warnings)


def scene_of(desk: Desk, image: Image) -> Scene:
    """The scene of an image that paints into its init image."""
    picture = resized(plain(desk.open(init_of(image).image)), image.width, image.height)
    return composed(picture, mask_of(desk, image, picture), image, is_alpha=_names_no_mask(image))


def mask_of(desk: Desk, image: Image, picture: PIL.Image.Image) -> PIL.Image.Image:
    """The mask of an image at the size of a picture, as the job asks for it: L, black is painted."""
    asked = image.mask or Mask()
    if asked.image is not None:
        mask = resized(mask_in(desk.open(asked.image)), *picture.size)
    elif asked.text is not None:
        mask = described(desk.plan.reference("clipseg", "clipseg"), picture, asked.text, asked.threshold)
    else:
        mask = mask_in(picture) if picture.mode == "RGBA" else PIL.Image.new("L", picture.size, KEPT)
    if asked.invert:
        mask = PIL.ImageOps.invert(mask)
    return PIL.Image.fromarray(grown(np.asarray(mask), asked.grow))


def _names_no_mask(image: Image) -> bool:
    return image.mask is None or (image.mask.image is None and image.mask.text is None)


def composed(picture: PIL.Image.Image, mask: PIL.Image.Image, image: Image, is_alpha: bool) -> Scene:
    """A scene of a picture and a mask of its size. `is_alpha` says that the mask is the picture's own transparency."""
    colors, keep = np.asarray(picture.convert("RGB")), np.asarray(mask)
    if picture.mode != "RGBA":
        return _told(Scene(colors, keep))
    alpha = np.asarray(picture.getchannel("A"))
    is_erased = are_erased(colors, alpha)
    if image.infill is None and image.outpaint is None and not is_erased:
        # Whoever makes a part transparent and keeps its colours says with both what to paint, and from what.
        return _told(Scene(colors, keep if is_alpha else multiplied(keep, alpha)))
    colors = infilled(colors, alpha, image.infill or Infill())
    warnings = (ERASED,) if is_erased and image.infill is None and image.outpaint is None else ()
    return _told(Scene(colors, multiplied(keep, alpha), warnings))


def _told(scene: Scene) -> Scene:
    """The scene with a word about a mask that does not do what masks are for."""
    return replace(scene, warnings=(*scene.warnings, *_warnings(scene.keep)))


def _warnings(keep: Grey) -> Iterator[str]:
    if (keep == KEPT).all():
        yield PAINTS_NOTHING
    elif not keep.any():
        yield PAINTS_ALL
    elif uncovered(keep) > BORDER:
        yield THIN
