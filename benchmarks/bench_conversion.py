"""Conversion at full size: SD-1.5 and SDXL, safetensors and pickle, as stored and cast. A section of `bench_models`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench_import import Figures, made, measured


def run(scratch: Path) -> bool:
    """Print what every file costs; False when one is out of bounds."""
    within = True
    for figures in _figures(scratch):
        print(figures, *(figures.differences or ())[:20], sep="\n", flush=True)
        within = within and figures.is_within_bounds
    return within


def _figures(scratch: Path) -> Iterator[Figures]:
    """One file at a time lies on the disk, since each has gigabytes."""
    for base, options in (("sd-1.5", ()), ("sdxl", ("--sdxl",))):
        source = made(scratch / f"{base}.safetensors", *options)
        yield measured(source.name, source, scratch, rounds=3, compare=True)
        yield measured(f"{source.name} to bfloat16", source, scratch, rounds=1, dtype="bfloat16", compare=False)
        source.unlink()
        source = made(scratch / f"{base}.ckpt", *options)
        yield measured(source.name, source, scratch, rounds=1, compare=False)
        source.unlink()
