"""Colours: a picture given the colours of another, by the histograms of their lightness and colour. Called by modes.

In CIE L*a*b*, where a step in any direction looks about equally large. Never touches torch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

#: From linear sRGB to CIE XYZ, and the white of daylight (D65) there.
_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE = np.array([0.95047, 1.0, 1.08883])
#: Below this, lightness follows a line instead of the cube root.
_DARK = 6 / 29


def with_colors_of(picture: Pixels, other: Pixels) -> Pixels:
    """A picture, [height, width, 3], whose histogram of each channel of L*a*b* is that of another picture."""
    lab, wanted = to_lab(picture), to_lab(other)
    matched = [match(lab[..., channel], wanted[..., channel]) for channel in range(3)]
    return to_rgb(np.stack(matched, axis=-1))


def match(values: Floats, wanted: Floats) -> Floats:
    """Values in the same order, spread as the wanted ones are: each becomes the one of the same rank."""
    _, places, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    known, known_counts = np.unique(wanted.ravel(), return_counts=True)
    ranks = np.cumsum(counts) / values.size
    matched = np.interp(ranks, np.cumsum(known_counts) / wanted.size, known)
    return matched[places].reshape(values.shape)


def to_lab(pixels: Pixels) -> Floats:
    """sRGB, 0 … 255, as L*a*b*."""
    values = pixels / 255
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    xyz = linear @ _TO_XYZ.T / _WHITE
    x, y, z = np.moveaxis(np.where(xyz > _DARK**3, np.cbrt(xyz), xyz / (3 * _DARK**2) + 4 / 29), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def to_rgb(lab: Floats) -> Pixels:
    """L*a*b* as sRGB, 0 … 255; colours that no screen shows are the nearest in each channel."""
    light = (lab[..., 0] + 16) / 116
    roots = np.stack([light + lab[..., 1] / 500, light, light - lab[..., 2] / 200], axis=-1)
    xyz = np.where(roots > _DARK, roots**3, 3 * _DARK**2 * (roots - 4 / 29)) * _WHITE
    linear = np.clip(xyz @ np.linalg.inv(_TO_XYZ).T, 0, 1)
    values = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    pixels: Pixels = (values * 255).round().astype(np.uint8)
    return pixels
