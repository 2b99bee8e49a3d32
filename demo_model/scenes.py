"""Scenes: the pictures the demo model learns, and the captions that go with them.

A scene is one coloured shape on one coloured background, drawn as a small flat illustration (soft gradient,
drop shadow, highlight). Called by the trainer and by the evaluation. Never imports torch.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from itertools import product

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIZE = 64
#: Shapes are drawn this many times larger and scaled down, which smooths their edges.
OVERSAMPLING = 4

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (212, 42, 48),
    "orange": (244, 132, 28),
    "yellow": (250, 212, 48),
    "green": (40, 156, 84),
    "blue": (38, 94, 214),
    "purple": (128, 58, 170),
    "pink": (246, 148, 192),
    "white": (246, 246, 242),
    "black": (30, 30, 36),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "moon", "cross")
CAPTIONS = (
    "a {colour} {shape} on a {background} background",
    "{colour} {shape}, {background} background",
    "a picture of a {colour} {shape} on {background}",
)


@dataclass(frozen=True)
class Scene:
    """What a picture shows: a shape, its colour, and the colour behind it."""

    shape: str
    colour: str
    background: str

    def caption(self, template: str = CAPTIONS[0]) -> str:
        return template.format(shape=self.shape, colour=self.colour, background=self.background)


SCENES = tuple(
    Scene(shape, colour, background)
    for shape, colour, background in product(SHAPES, COLOURS, COLOURS)
    if colour != background
)


def split(held_out_share: float = 0.15, seed: int = 7) -> tuple[list[Scene], list[Scene]]:
    """The scenes to train on, and those that training never sees (for the evaluation)."""
    scenes = list(SCENES)
    random.Random(seed).shuffle(scenes)
    held_out = round(len(scenes) * held_out_share)
    return scenes[held_out:], scenes[:held_out]


def draw(scene: Scene, rng: random.Random, size: int = SIZE) -> Image.Image:
    """One RGB picture of a scene; place, size and tilt of the shape vary a little with `rng`."""
    radius = rng.uniform(0.34, 0.41)
    centre = (rng.uniform(0.46, 0.54), rng.uniform(0.46, 0.54))
    return paint(scene, centre, radius, rng.uniform(-8, 8), size)


def paint(scene: Scene, centre: tuple[float, float], radius: float, tilt: float = 0.0, size: int = SIZE) -> Image.Image:
    """One RGB picture of a scene. Place and size are shares of the picture's side, `tilt` is in degrees."""
    big = size * OVERSAMPLING
    mask = shape_mask(scene.shape, big, (big * centre[0], big * centre[1]), big * radius, tilt)
    picture = _gradient(COLOURS[scene.background], big, 1.07, 0.93)
    shadow = ImageChops.offset(mask, big // 40, big // 24).filter(ImageFilter.GaussianBlur(big / 32))
    picture.paste((0, 0, 0), mask=shadow.point(lambda value: value * 0.30))
    picture.paste(_gradient(COLOURS[scene.colour], big, 1.10, 0.90), mask=mask)
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def shape_mask(shape: str, size: int, centre: tuple[float, float], radius: float, tilt: float = 0.0) -> Image.Image:
    """An L image, 255 inside the shape. `radius` is that of its circumscribed circle, `tilt` in degrees."""
    mask = Image.new("L", (size, size), 0)
    pen = ImageDraw.Draw(mask)
    x, y = centre
    if shape == "circle":
        pen.ellipse(_box(x, y, radius * 0.92), fill=255)
    elif shape == "moon":
        pen.ellipse(_box(x, y, radius), fill=255)
        bite = radius * 0.86
        angle = math.radians(-28 + tilt)
        pen.ellipse(_box(x + radius * 0.55 * math.cos(angle), y + radius * 0.55 * math.sin(angle), bite), fill=0)
    else:
        turn = math.radians(tilt)
        pen.polygon([_turned(px, py, turn, radius, x, y) for px, py in OUTLINES[shape]], fill=255)
    return mask


def _box(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return (x - radius, y - radius, x + radius, y + radius)


def _turned(px: float, py: float, turn: float, radius: float, x: float, y: float) -> tuple[float, float]:
    cos, sin = math.cos(turn), math.sin(turn)
    return (x + radius * (px * cos - py * sin), y + radius * (px * sin + py * cos))


def _ring(corners: int, start: float, inner: float | None = None) -> list[tuple[float, float]]:
    """The corners of a regular polygon, or of a star when `inner` (its inner radius) is given."""
    steps = corners * 2 if inner else corners
    radii = [1.0 if not inner or step % 2 == 0 else inner for step in range(steps)]
    angles = [math.radians(start) + 2 * math.pi * step / steps for step in range(steps)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _heart() -> list[tuple[float, float]]:
    """The classic heart curve x = 16 sin³t, y = 13 cos t − 5 cos 2t − 2 cos 3t − cos 4t, scaled to radius 1."""
    angles = [2 * math.pi * step / 120 for step in range(120)]
    return [
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16,
        )
        for t in angles
    ]


def _cross(arm: float = 0.34) -> list[tuple[float, float]]:
    quarter = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
    corners: list[tuple[float, float]] = []
    for _ in range(4):
        corners += quarter
        quarter = [(-y, x) for x, y in quarter]
    return [(x * 0.95, y * 0.95) for x, y in corners]


OUTLINES: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": _ring(3, -90),
    "star": _ring(5, -90, inner=0.42),
    "heart": _heart(),
    "diamond": [(0.0, -1.0), (0.72, 0.0), (0.0, 1.0), (-0.72, 0.0)],
    "cross": _cross(),
}


def _gradient(colour: tuple[int, int, int], size: int, top: float, bottom: float) -> Image.Image:
    """A vertical gradient from `top` × colour to `bottom` × colour."""
    rows = np.linspace(top, bottom, size)[:, None, None] * np.array(colour)[None, None, :]
    pixels = np.broadcast_to(np.clip(rows, 0, 255), (size, size, 3)).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels))
