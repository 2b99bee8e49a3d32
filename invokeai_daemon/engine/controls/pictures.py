"""Pictures: a control picture brought to the size of the result, and to what ControlNets and T2I-Adapters take."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]

#: A picture of more than two and less than so many colours is a map whose colours mean something: none are mixed.
MAP_COLOURS = 200
#: Lines and other pictures of black and white only stay so.
NEARLY_BLACK, NEARLY_WHITE = 16, 240


def fitted(picture: Image.Image, size: Size, resize_mode: str) -> Image.Image:
    """A control picture at the size (width, height) of the result, by one of InvokeAI's resize modes."""
    return _MODES[resize_mode](picture.convert("RGB"), size)


def as_tensor(picture: Image.Image, channels: int = 3) -> Tensor:
    """[1, channels, height, width], 0 … 1. Raises ValueError when a picture cannot have so many channels."""
    if channels not in (1, 3):
        raise ValueError(f"it takes pictures of {channels} channels, not of 1 or 3")
    values = np.asarray(picture.convert("RGB" if channels == 3 else "L"), dtype=np.float32) / 255
    return torch.from_numpy(values.reshape(1, picture.height, picture.width, channels)).permute(0, 3, 1, 2)


def _stretched(picture: Image.Image, size: Size) -> Image.Image:
    """just_resize: the whole picture, each side by itself; lines and maps keep their colours."""
    if picture.size == size:
        return picture
    pixels = np.asarray(picture)
    colours = _colours(pixels)
    scaled = cv2.resize(pixels, size, interpolation=_way(colours, picture.size, size))
    if colours == 2 and pixels.min() < NEARLY_BLACK and pixels.max() > NEARLY_WHITE:
        scaled = np.where(scaled > 127, 255, 0).astype(np.uint8)
    return Image.fromarray(np.asarray(scaled, dtype=np.uint8))


def _way(colours: int, old: Size, new: Size) -> int:
    if 2 < colours < MAP_COLOURS:
        return cv2.INTER_NEAREST
    return cv2.INTER_AREA if new[0] * new[1] < old[0] * old[1] else cv2.INTER_CUBIC


def _colours(pixels: Pixels) -> int:
    numbers = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    return len(np.unique(numbers))


def _cropped(picture: Image.Image, size: Size) -> Image.Image:
    """crop_resize: the middle of the picture, which covers all of the result."""
    covering = _scaled_size(picture.size, size, max)
    left, top = ((large - small) // 2 for large, small in zip(covering, size, strict=True))
    return _stretched(picture, covering).crop((left, top, left + size[0], top + size[1]))


def _padded(picture: Image.Image, size: Size) -> Image.Image:
    """fill_resize: the whole picture within the result, around it the usual colour of its border."""
    within = _scaled_size(picture.size, size, min)
    pixels = np.asarray(picture)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = tuple(int(value) for value in np.median(border, axis=0))
    filled = Image.new("RGB", size, colour)
    filled.paste(_stretched(picture, within), ((size[0] - within[0]) // 2, (size[1] - within[1]) // 2))
    return filled


def _scaled_size(old: Size, new: Size, choose: Callable[[float, float], float]) -> Size:
    factor = choose(new[0] / old[0], new[1] / old[1])
    return max(1, round(old[0] * factor)), max(1, round(old[1] * factor))


def _simply(picture: Image.Image, size: Size) -> Image.Image:
    """just_resize_simple: as diffusers resizes."""
    return picture.resize(size, Image.Resampling.LANCZOS)


_MODES: Mapping[str, Callable[[Image.Image, Size], Image.Image]] = {
    "just_resize": _stretched,
    "crop_resize": _cropped,
    "fill_resize": _padded,
    "just_resize_simple": _simply,
}
