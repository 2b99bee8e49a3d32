"""Lines: edges and drawn lines of a picture, white on black."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]

#: The second blur of a difference of Gaussians is so much wider than the first.
WIDER = 1.6
#: Differences of brightness that are no line yet, 0 … 1: gradients of a sky, the steps of eight bits.
NO_LINE = 0.01
#: How strong an edge must be to become a stroke, 0 … 255.
STROKE = 15.0


def canny(pixels: Pixels, low_threshold: int, high_threshold: int) -> Pixels:
    """Canny's edges."""
    return np.asarray(cv2.Canny(pixels, low_threshold, high_threshold), dtype=np.uint8)


def line_drawing(pixels: Pixels, sigma: float, strength: float) -> Pixels:
    """Lines where the picture is darker than around it, from a difference of Gaussians."""
    grey = _grey(pixels)
    darker = _blurred(grey, WIDER * sigma) - _blurred(grey, sigma)
    return _to_bytes(np.tanh(strength * np.clip(darker - NO_LINE, 0, None)))


def scribble(pixels: Pixels, sigma: float, thickness: int) -> Pixels:
    """The edges of a blurred picture as strokes of one width."""
    edges = cv2.Canny(_to_bytes(_blurred(_grey(pixels), sigma)), STROKE, 2 * STROKE, L2gradient=True)
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (thickness, thickness))
    return np.asarray(cv2.dilate(edges, pen), dtype=np.uint8)


def soft_edges(pixels: Pixels, sigma: float) -> Pixels:
    """How steep the picture is, the strongest slopes white."""
    slopes = _slopes(_blurred(_grey(pixels), sigma))
    top = float(np.percentile(slopes, 99.5)) or float(slopes.max())
    return _to_bytes(np.sqrt(slopes / top)) if top else np.zeros(slopes.shape, np.uint8)


def line_segments(pixels: Pixels, length: int, thickness: int) -> Pixels:
    """Straight lines that are long enough."""
    found = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD).detect(_to_bytes(_grey(pixels)))[0]
    drawn = np.zeros(pixels.shape[:2], np.uint8)
    for x1, y1, x2, y2 in () if found is None else found.reshape(-1, 4):
        if np.hypot(x2 - x1, y2 - y1) >= length:
            start, end = (round(float(x1)), round(float(y1))), (round(float(x2)), round(float(y2)))
            cv2.line(drawn, start, end, 255, thickness, cv2.LINE_AA)
    return drawn


def _grey(pixels: Pixels) -> Values:
    """Brightness, 0 … 1."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) / np.float32(255), dtype=np.float32)


def _blurred(values: Values, sigma: float) -> Values:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma)) if sigma else values


def _slopes(values: Values) -> Values:
    across, down = (cv2.Sobel(values, cv2.CV_32F, *order, ksize=3) for order in ((1, 0), (0, 1)))
    return np.asarray(np.hypot(across, down), dtype=np.float32)


def _to_bytes(values: Values) -> Pixels:
    return np.clip(values * 255, 0, 255).round().astype(np.uint8)
