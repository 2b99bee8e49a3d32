"""Checkpoints of the real layout with parts so small that a file takes a millisecond; every byte is its own."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from pathlib import Path

from invokeai_daemon.models.convert import sd
from invokeai_daemon.models.convert.clip import Clip
from invokeai_daemon.models.convert.layout import Part, Shape
from invokeai_daemon.models.convert.unet import UNet
from invokeai_daemon.models.convert.vae import Vae
from invokeai_daemon.models.header import BITS, Header, read_header
from invokeai_daemon.models.identity import Identity

UNET = UNet(in_channels=4, out_channels=4, widths=(8, 16), attention=(True, False), depth=1, context=64)
VAE = Vae(in_channels=3, out_channels=3, latent_channels=4, widths=(4, 8), depth=1)
CLIP = Clip(vocabulary=50, positions=7, width=64, layers=1, inner=32)
PARTS: tuple[Part, ...] = (UNET, VAE, CLIP)

SD1 = Identity("main", "sd-1", "checkpoint", "normal", "epsilon")

#: Name -> dtype and shape.
Tensors = dict[str, tuple[str, Shape]]


def tensors_of(parts: tuple[Part, ...] = PARTS, dtype: str = "F16") -> Tensors:
    return {prefix_of(part) + rename.source: (dtype, rename.shape) for part in parts for rename in part.renames()}


def prefix_of(part: Part) -> str:
    """Where the part lies in an SD-1 checkpoint."""
    layouts = (layout for component in sd.SD1.components for layout in component.layouts)
    return next(layout.prefix for layout in layouts if layout.part is type(part))


def write(path: Path, tensors: Mapping[str, tuple[str, Shape]] | None = None, seed: int = 0) -> Path:
    """A safetensors file of random bytes, in the order of the mapping."""
    entries, position = {}, 0
    for name, (dtype, shape) in (tensors_of() if tensors is None else tensors).items():
        end = position + math.prod(shape) * BITS[dtype] // 8
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + random.Random(seed).randbytes(position))
    return path


def contents(path: Path) -> dict[str, tuple[str, Shape, bytes]]:
    """Name -> dtype, shape and bytes of every tensor of a file."""
    raw = path.read_bytes()
    return {
        name: (info.dtype, info.shape, raw[info.file_offset : info.file_offset + info.nbytes])
        for name, info in read_header(path).tensors.items()
    }


def header(path: Path, tensors: Mapping[str, tuple[str, Shape]] | None = None) -> Header:
    return read_header(write(path, tensors))
