"""Layout: what one part of a checkpoint holds, tensor by tensor, under the names of both worlds.

A part (UNet, VAE, text encoder) is a small frozen dataclass of widths and depths. From it follow the table of its
renames and its diffusers config; it is inferred from the shapes in a header. Used by the plan and by the export of the
demo model, which reads the same tables backwards. Knows nothing of files and never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

#: Blocks, levels or layers of one kind; the largest known model has a third of it.
MAX_MODULES = 64

Shape = tuple[int, ...]
#: Shapes of one part's tensors by their name without the part's prefix.
Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Rename:
    """One tensor under its name in the single file and under its name in diffusers, with diffusers' shape."""

    source: str
    target: str
    shape: Shape


class Part(Protocol):
    """A part's widths and depths: inferred from shapes, or read from a diffusers config."""

    #: Where the part lives in a single file; the first of them that a file uses counts.
    prefixes: ClassVar[tuple[str, ...]]

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
    """Groups of the group norms, which no shape tells: 32 in every Stable Diffusion 1, whose finest level has 128 or
    320 channels. A narrower model keeps the four channels per group of the VAE, since a group of one would erase the
    mean of its channel.
    """
    return min(32, finest // 4)


def conv(source: str, target: str, inputs: int, outputs: int, kernel: int = 3) -> Iterator[Rename]:
    yield Rename(f"{source}.weight", f"{target}.weight", (outputs, inputs, kernel, kernel))
    yield Rename(f"{source}.bias", f"{target}.bias", (outputs,))


def linear(source: str, target: str, inputs: int, outputs: int, *, bias: bool = True) -> Iterator[Rename]:
    yield Rename(f"{source}.weight", f"{target}.weight", (outputs, inputs))
    if bias:
        yield Rename(f"{source}.bias", f"{target}.bias", (outputs,))


def norm(source: str, target: str, channels: int) -> Iterator[Rename]:
    yield Rename(f"{source}.weight", f"{target}.weight", (channels,))
    yield Rename(f"{source}.bias", f"{target}.bias", (channels,))


def same_values(one: Shape, other: Shape) -> bool:
    """Whether tensors of these shapes hold the same values in the same order: [c, c, 1, 1] is [c, c]."""
    return _without_trailing_ones(one) == _without_trailing_ones(other)


def _without_trailing_ones(shape: Shape) -> Shape:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape
