"""Weights: the names and shapes of a weight file as identification asks for them.

Made by `identify` from a header; the tables ask it. Names are looked up by patterns in which `*` stands for any text. A
view (`under`) shows the part of a file below a prefix under the names without it. Tensors are never read.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple, TypeVar

from invokeai_daemon.models.header import Header, TensorInfo

Shape = tuple[int, ...]
Fact = TypeVar("Fact")


class Found(NamedTuple):
    """A tensor that a pattern names."""

    #: As it stands in the file, with the prefix of the view.
    name: str
    shape: Shape
    #: Whether several values share a byte, so that the shape is not that of the network.
    packed: bool = False


#: dtypes in which quantised files pack values of four bits.
PACKED = frozenset({"U8", "I32"})


class Weights:
    """The tensors of a header, all of them or those below `prefix`."""

    def __init__(self, header: Header, prefix: str = "", whole: Weights | None = None) -> None:
        self.header = header
        #: What was taken off the names; the names in evidence have it.
        self.prefix = prefix
        #: The view of the whole file, for what lies beside this part of it.
        self.whole: Weights = whole or self
        self._views: dict[str, Weights] = {}
        self._chosen: dict[Sequence[str], Weights] = {}
        self._found: dict[str, Found | None] = {}
        self._facts: dict[Callable[..., Any], Any] = {}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Sorted, without the prefix."""
        if not self.prefix:
            return tuple(sorted(self.header.tensors))
        names, length = self.whole.names, len(self.prefix)
        start = bisect_left(names, self.prefix)
        end = bisect_left(names, self.prefix[:-1] + chr(ord(self.prefix[-1]) + 1))
        return tuple(name[length:] for name in names[start:end])

    def __len__(self) -> int:
        return len(self.names)

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.header.metadata

    @property
    def scalars(self) -> Mapping[str, int | float | str]:
        """Plain values beside the tensors of a pickle: global_step, epoch, …"""
        return self.header.scalars

    @cached_property
    def dtypes(self) -> Counter[str]:
        """dtype -> number of tensors."""
        return Counter(self.tensor(name).dtype for name in self.names)

    def tensor(self, name: str) -> TensorInfo:
        """The tensor of a name in `names`."""
        return self.header.tensors[self.prefix + name]

    def shape(self, name: str) -> Shape | None:
        """The shape of exactly this tensor."""
        info = self.header.tensors.get(self.prefix + name)
        return info.shape if info else None

    def under(self, prefixes: Sequence[str]) -> Weights:
        """The view below the first of these prefixes that names of this view begin with; the last, when none does."""
        if prefixes not in self._chosen:
            chosen = next((prefix for prefix in prefixes if self.begins(prefix)), prefixes[-1])
            self._chosen[prefixes] = self.below(chosen)
        return self._chosen[prefixes]

    def below(self, prefix: str) -> Weights:
        """The view below exactly this prefix."""
        if not prefix:
            return self
        if prefix not in self._views:
            self._views[prefix] = Weights(self.header, self.prefix + prefix, self.whole)
        return self._views[prefix]

    def begins(self, beginning: str) -> bool:
        """Whether a name begins so."""
        place = bisect_left(self.names, beginning)
        return place < len(self.names) and self.names[place].startswith(beginning)

    def find(self, *patterns: str) -> Found | None:
        """The first tensor, in the order of the patterns and then of the names, that one of the patterns names."""
        for pattern in patterns:
            if pattern not in self._found:
                name = next(self.matching(pattern), None)
                self._found[pattern] = None if name is None else self._seen(name)
            found = self._found[pattern]
            if found is not None:
                return found
        return None

    def _seen(self, name: str) -> Found:
        tensor = self.tensor(name)
        return Found(self.prefix + name, tensor.shape, tensor.dtype in PACKED)

    def matching(self, pattern: str) -> Iterator[str]:
        """The names that a pattern fits, sorted."""
        literal, star, rest = pattern.partition("*")
        if not star:
            if self.prefix + pattern in self.header.tensors:
                yield pattern
            return
        fits = _compiled(pattern).fullmatch if rest else None
        for place in range(bisect_left(self.names, literal), len(self.names)):
            name = self.names[place]
            if not name.startswith(literal):
                return
            if fits is None or fits(name):
                yield name

    def count(self, stem: str) -> int:
        """How many different numbers follow a stem: 19 for "double_blocks." in a FLUX file."""
        return len({name.removeprefix(stem).partition(".")[0] for name in self.matching(f"{stem}*")})

    def ask(self, fact: Callable[[Weights], Fact]) -> Fact:
        """What a function says of this view; it is called once, however many rules ask."""
        if fact not in self._facts:
            self._facts[fact] = fact(self)
        answer: Fact = self._facts[fact]
        return answer


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def shorten(name: str) -> str:
    """A key for a sentence: printable, and its middle left out when it is long."""
    shown = ascii(name)[1:-1]
    return shown if len(shown) <= 80 else f"{shown[:38]}…{shown[-38:]}"
