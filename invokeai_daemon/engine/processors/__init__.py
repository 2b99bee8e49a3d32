"""Processors: control pictures made of any picture, by the names of `job/processors.py`. A module for each kind.

Called when a control is attached to a lane. What works on pixels alone gives the same picture everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image

from invokeai_daemon.engine.processors.colours import (
    binarize,
    blur,
    brightness,
    color_map,
    content_shuffle,
    invert,
    tile,
)
from invokeai_daemon.engine.processors.lines import canny, line_drawing, line_segments, scribble, soft_edges
from invokeai_daemon.engine.processors.normals import normal_from_depth

Pixels = npt.NDArray[np.uint8]

#: From [height, width, 3] and options to a picture of the same size, grey or in colours.
PROCESSORS: Mapping[str, Callable[..., Pixels]] = MappingProxyType(
    {
        "none": lambda pixels: pixels,
        "canny": canny,
        "line_drawing": line_drawing,
        "scribble": scribble,
        "soft_edges": soft_edges,
        "line_segments": line_segments,
        "color_map": color_map,
        "content_shuffle": content_shuffle,
        "tile": tile,
        "blur": blur,
        "invert": invert,
        "binarize": binarize,
        "brightness": brightness,
        "normal_from_depth": normal_from_depth,
    }
)


def processed(picture: Image.Image, name: str, options: Mapping[str, object]) -> Image.Image:
    """The control picture that a processor without a model makes of a picture, in RGB."""
    made = PROCESSORS[name](np.asarray(picture.convert("RGB")), **options)
    return Image.fromarray(np.ascontiguousarray(made)).convert("RGB")
