"""Colours: control pictures that keep colours or brightness and lose shapes or detail."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]


def color_map(pixels: Pixels, tile_size: int) -> Pixels:
    """Blocks, each of the mean colour of what it covers."""
    height, width = pixels.shape[:2]
    small = max(1, width // tile_size), max(1, height // tile_size)
    blocks = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def content_shuffle(pixels: Pixels, scale_factor: int, seed: int) -> Pixels:
    """Every pixel taken from where a smooth random flow leads, anywhere in the picture."""
    height, width = pixels.shape[:2]
    random = np.random.default_rng(seed)
    across = _flow(random, height, width, scale_factor) * (width - 1)
    down = _flow(random, height, width, scale_factor) * (height - 1)
    return np.asarray(cv2.remap(pixels, across, down, cv2.INTER_LINEAR), dtype=np.uint8)


def _flow(random: np.random.Generator, height: int, width: int, scale: int) -> Values:
    """Smooth noise, 0 … 1, whose hills are about `scale` pixels wide."""
    coarse = random.random((-(-height // scale) + 3, -(-width // scale) + 3), dtype=np.float32)
    smooth = cv2.resize(coarse, (coarse.shape[1] * scale, coarse.shape[0] * scale), interpolation=cv2.INTER_CUBIC)
    top, left = (smooth.shape[0] - height) // 2, (smooth.shape[1] - width) // 2
    part = smooth[top : top + height, left : left + width]
    low, high = float(part.min()), float(part.max())
    return np.ascontiguousarray((part - low) / max(high - low, 1e-6), dtype=np.float32)


def tile(pixels: Pixels, down_sampling_rate: float) -> Pixels:
    """The picture made smaller by a factor, and as large again."""
    if down_sampling_rate == 1:
        return pixels
    height, width = pixels.shape[:2]
    small = max(1, round(width / down_sampling_rate)), max(1, round(height / down_sampling_rate))
    reduced = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(reduced, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def blur(pixels: Pixels, radius: float, blur_type: str) -> Pixels:
    """Blurred by a Gaussian whose deviation is the radius, or by boxes that reach as far."""
    if not radius:
        return pixels
    if blur_type == "box":
        side = 2 * round(radius) + 1
        return np.asarray(cv2.blur(pixels, (side, side)), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), radius), dtype=np.uint8)


def invert(pixels: Pixels) -> Pixels:
    return 255 - pixels


def binarize(pixels: Pixels, threshold: int) -> Pixels:
    """White where the picture is at least so bright, else black."""
    return np.where(_grey(pixels) >= threshold, 255, 0).astype(np.uint8)


def brightness(pixels: Pixels) -> Pixels:
    """How bright the picture is, from its darkest to its brightest part: 0 … 255."""
    grey = _grey(pixels).astype(np.float32)
    low, high = float(grey.min()), float(grey.max())
    return ((grey - low) * (255 / max(high - low, 1))).round().astype(np.uint8)


def _grey(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
