"""Normals: which way the surfaces of a depth map face, as colours: red to the right, green up, blue to the viewer."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


def normal_from_depth(pixels: Pixels, strength: float) -> Pixels:
    """The normals of a depth map in which bright is near. `strength` is how much nearer white is than black."""
    depth = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255 * strength
    # Of eighths, as Sobel's kernel sums up.
    right, down = (cv2.Sobel(depth, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for order in ((1, 0), (0, 1)))
    side = max(depth.shape) / 8
    normals = np.stack([-right * side, down * side, np.ones_like(depth)], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return ((normals + 1) * 127.5).round().astype(np.uint8)
