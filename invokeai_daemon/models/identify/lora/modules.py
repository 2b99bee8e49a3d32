"""Modules: the layers of every architecture that LoRAs are trained for, by name and size, and who has such a layer.

The tables (`unets`, `transformers`, `others`, `video`, `text`) are text, a line for modules of one size:

    transformer_blocks.[19].attn.(to_q|to_k|to_v)  3072x3072

`[19]` stands for the numbers 0 to 18, `(a|b)` for either name; sizes are rows x columns and, for a convolution, the
kernel; several sizes stand for variants of the same layer. Read once, on the first LoRA, into an index from a module's
name to a mask of the architectures that have it in a size: one bit each. Used by `facts`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

from invokeai_daemon.models.identify.lora.layers import Measure, Shape

#: Module name, dots as underscores -> (rows, columns, spatial) -> mask of architectures.
Index = dict[str, dict[tuple[int, int, bool], int]]


@dataclass(frozen=True)
class Architecture:
    """What denoises, or what reads prompts: its layers under every name that trainers give them."""

    base: str
    table: str
    variant: str | None = None
    #: How a sentence calls it: "Stable Diffusion 1", "FLUX.1".
    name: str = ""

    @property
    def layers(self) -> Iterator[tuple[str, Shape]]:
        """Every module's name, with dots, and one of its sizes."""
        return _read(self.table)

    @cached_property
    def blocks(self) -> dict[str, int]:
        """How many blocks are numbered after a stem: {"transformer_blocks": 19}."""
        counts: dict[str, int] = {}
        for line in self.table.splitlines():
            found = _COUNT.match(line.strip())
            if found:
                stem = found[1].replace(".", "_")
                counts[stem] = max(int(found[2]), counts.get(stem, 0))
        return counts


_COUNT = re.compile(r"([\w.]+?)\.?\[(\d+)\]")
_CHOICE = re.compile(r"\[(\d+)\]|\(([^)]*)\)")


def _read(table: str) -> Iterator[tuple[str, Shape]]:
    for line in table.splitlines():
        pattern, *sizes = line.split() or [""]
        shapes = [tuple(map(int, size.split("x"))) for size in sizes]
        for name in _spelled_out(pattern):
            for shape in shapes:
                yield name, shape


def _spelled_out(pattern: str) -> Iterator[str]:
    """Every name that a pattern of the tables stands for."""
    pieces = _CHOICE.split(pattern)
    # Text, number, names, text, number, names, … where one of number and names is None.
    choices: list[Iterable[str]] = []
    for place, piece in enumerate(pieces):
        if place % 3 == 0:
            choices.append((piece,))
        elif piece is not None:
            choices.append(map(str, range(int(piece))) if place % 3 == 1 else piece.split("|"))
    return map("".join, product(*choices))


def indexed(architectures: Iterable[Architecture]) -> Index:
    """The index over some architectures; the first has the lowest bit."""
    index: Index = {}
    for number, architecture in enumerate(architectures):
        bit = 1 << number
        for name, shape in architecture.layers:
            sizes = index.setdefault(name.replace(".", "_"), {})
            for key in _keys(shape):
                sizes[key] = sizes.get(key, 0) | bit
    return index


def _keys(shape: Shape) -> Iterator[tuple[int, int, bool]]:
    """How a layer of this shape may be measured: a convolution's columns per pixel, or its kernel laid flat."""
    if len(shape) == 1:
        yield shape[0], 0, False
        return
    if len(shape) > 2:
        yield shape[0], shape[1], True
    yield shape[0], math.prod(shape[1:]), False


def candidates(index: Index, module: str, measure: Measure) -> int | None:
    """The architectures that have a module of this name and size, as a mask; None when none knows the name."""
    sizes = index.get(module)
    if sizes is None:
        return None
    rows, columns, spatial, either = measure
    if rows is not None and columns is not None:
        return sizes.get((rows, columns, spatial), 0)
    mask = 0
    for (high, wide, _), bits in sizes.items():
        if rows in (None, high) and columns in (None, wide) and (either is None or either in (high, wide)):
            mask |= bits
    return mask


@cache
def every(mask: int) -> tuple[int, ...]:
    """The numbers of the bits that are set."""
    return tuple(number for number in range(mask.bit_length()) if mask >> number & 1)
