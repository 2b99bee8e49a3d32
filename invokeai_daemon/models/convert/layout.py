"""Layout: what one part of a checkpoint holds, tensor by tensor, under the names of both worlds.

A part (UNet, VAE, text encoder) is a small frozen dataclass of widths and depths. From it follow the table of its
renames and its diffusers config; it is inferred from the shapes in a header. Every tensor of the new folder is made of
whole rows of tensors of the single file, in some order; a few small ones are turned. Used by the plan and by the export
of the demo model, which reads the same tables backwards. Knows nothing of files and never imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

#: Blocks, levels or layers of one kind; the largest known model has a third of it.
MAX_MODULES = 64

Shape = tuple[int, ...]
#: Shapes of one part's tensors by their name without the part's prefix.
Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Rows:
    """Neighbouring rows of a tensor of the single file: all of them, or some."""

    source: str
    #: Of the whole tensor, as the single file has it.
    shape: Shape
    first: int = 0
    #: How many; None: all from the first.
    count: int | None = None

    @property
    def elements(self) -> tuple[int, int]:
        """Where the rows begin in the tensor and how much they are, counted in values."""
        row, rows = math.prod(self.shape[1:]), self.shape[0] if self.shape else 1
        return self.first * row, (rows - self.first if self.count is None else self.count) * row


@dataclass(frozen=True)
class Rename:
    """One tensor under its name in diffusers, with diffusers' shape, and what of the single file it is made of.

    The rows follow each other in the new tensor. Without any, it is an identity matrix.
    """

    target: str
    shape: Shape
    rows: tuple[Rows, ...]
    #: Rows and columns change places.
    transposed: bool = False

    @property
    def source(self) -> str:
        """The name in the single file; of several, the first."""
        return self.rows[0].source


class Part(Protocol):
    """A part's widths and depths: inferred from shapes, or read from a diffusers config."""

    #: How the name of some tensor of every such part begins; tells this layout from others of the same part.
    signature: ClassVar[str]

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        """Raises MissingTensorError when a tensor that decides is not there."""
        ...

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self: ...

    def renames(self) -> Iterator[Rename]: ...

    def config(self) -> dict[str, Any]: ...


class MissingTensorError(LookupError):
    """A tensor that decides the layout is not in the file, or has not the rank it must have."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


def width(shapes: Shapes, name: str, axis: int = 0) -> int:
    """The size of one axis of a tensor that must be there."""
    shape = shapes.get(name, ())
    if axis >= len(shape):
        raise MissingTensorError(name)
    return shape[axis]


def count(shapes: Shapes, stem: str) -> int:
    """How many numbered modules follow a stem: 12 for "input_blocks." when the highest is input_blocks.11.

    Numbers that no real model has are passed over, so that a made-up name cannot ask for a million blocks.
    """
    numbers = {name.removeprefix(stem).partition(".")[0] for name in shapes if name.startswith(stem)}
    return max((number for number in range(MAX_MODULES) if str(number) in numbers), default=-1) + 1


def has(shapes: Shapes, stem: str) -> bool:
    return any(name.startswith(stem) for name in shapes)


def norm_groups(finest: int) -> int:
    """Groups of the group norms, which no shape tells: 32 in every Stable Diffusion, whose finest level has 128 to
    384 channels. A narrower model keeps the four channels per group of the VAE, since a group of one would erase the
    mean of its channel.
    """
    return min(32, finest // 4)


def renamed(source: str, target: str, shape: Shape) -> Rename:
    """The same tensor under another name."""
    return Rename(target, shape, (Rows(source, shape),))


def cut(source: str, target: str, shape: Shape, first: int, of: int) -> Rename:
    """As many rows as `shape` has, from the `first` of a tensor that has `of`: a third of a fused q, k, v."""
    return Rename(target, shape, (Rows(source, (of, *shape[1:]), first, shape[0]),))


def joined(sources: Sequence[str], target: str, shapes: Sequence[Shape]) -> Rename:
    """Several tensors in one, below each other."""
    rows = tuple(Rows(source, shape) for source, shape in zip(sources, shapes, strict=True))
    return Rename(target, (sum(shape[0] for shape in shapes), *shapes[0][1:]), rows)


def swapped(source: str, target: str, shape: Shape) -> Rename:
    """The lower half first: where one world writes shift and scale, the other writes scale and shift."""
    half = shape[0] // 2
    return Rename(target, shape, (Rows(source, shape, half, half), Rows(source, shape, 0, half)))


def transposed(source: str, target: str, shape: Shape) -> Rename:
    """Rows and columns change places; `shape` is that of the new tensor, which passes through memory."""
    return Rename(target, shape, (Rows(source, shape[::-1]),), transposed=True)


def identity_matrix(target: str, size: int) -> Rename:
    """A projection that the single file has not and diffusers wants."""
    return Rename(target, (size, size), ())


def conv(source: str, target: str, inputs: int, outputs: int, kernel: int = 3) -> Iterator[Rename]:
    yield renamed(f"{source}.weight", f"{target}.weight", (outputs, inputs, kernel, kernel))
    yield renamed(f"{source}.bias", f"{target}.bias", (outputs,))


def linear(source: str, target: str, inputs: int, outputs: int, *, bias: bool = True) -> Iterator[Rename]:
    yield renamed(f"{source}.weight", f"{target}.weight", (outputs, inputs))
    if bias:
        yield renamed(f"{source}.bias", f"{target}.bias", (outputs,))


def norm(source: str, target: str, channels: int) -> Iterator[Rename]:
    yield renamed(f"{source}.weight", f"{target}.weight", (channels,))
    yield renamed(f"{source}.bias", f"{target}.bias", (channels,))


def linears_cut(
    source: str, targets: Sequence[str], inputs: int, outputs: int, *, bias: bool = True
) -> Iterator[Rename]:
    """Several linear layers of the same width that the single file keeps in one: q, k and v."""
    for place, target in enumerate(targets):
        yield cut(f"{source}.weight", f"{target}.weight", (outputs, inputs), place * outputs, len(targets) * outputs)
        if bias:
            yield cut(f"{source}.bias", f"{target}.bias", (outputs,), place * outputs, len(targets) * outputs)


def same_values(one: Shape, other: Shape) -> bool:
    """Whether tensors of these shapes hold the same values in the same order: [c, c, 1, 1] is [c, c]."""
    return _without_trailing_ones(one) == _without_trailing_ones(other)


def _without_trailing_ones(shape: Shape) -> Shape:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape
