"""The tree of a prompt: what every syntax is read into, and all that the engine encodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, groupby

#: What InvokeAI takes for the name of an embedding in a prompt.
TRIGGER = re.compile(r"<([a-zA-Z0-9](?:[a-zA-Z0-9., _-]*[a-zA-Z0-9_-])?)>")


@dataclass(frozen=True)
class Fragment:
    """Words with one weight."""

    text: str
    #: 1 as they are, more for more of them, 0 for none; never negative.
    weight: float = 1.0


@dataclass(frozen=True)
class Window:
    """The parts of a run, 0 … 1, in which a swap takes attention from the original."""

    #: For what of the picture is about which word.
    t_start: float = 0.2
    t_end: float = 1.0
    #: For what of the picture is like what else of it: its shapes.
    s_start: float = 0.0
    s_end: float = 0.0


@dataclass(frozen=True)
class Swap:
    """Words that others take the place of, while the picture stays as it is."""

    original: tuple[Fragment, ...]
    edited: tuple[Fragment, ...]
    window: Window = Window()


@dataclass(frozen=True)
class Attached:
    """A LoRA that is named among the words. It is none of them: prompts do not hold it."""

    name: str
    #: None for the LoRA's own.
    weight: float | None = None
    text_encoder_weight: float | None = None


#: What stands in a text, one after the other.
Part = Fragment | Swap | Attached


@dataclass(frozen=True)
class Prompt:
    """Words that are encoded together, in their order."""

    parts: tuple[Fragment | Swap, ...] = ()

    @property
    def swaps(self) -> tuple[Swap, ...]:
        return tuple(part for part in self.parts if isinstance(part, Swap))

    @property
    def fragments(self) -> tuple[Fragment, ...]:
        """The words before any swap."""
        return self._said(lambda swap: swap.original)

    @property
    def edited(self) -> tuple[Fragment, ...]:
        """The words after all swaps."""
        return self._said(lambda swap: swap.edited)

    def _said(self, side: Callable[[Swap], tuple[Fragment, ...]]) -> tuple[Fragment, ...]:
        if not self.swaps:
            return self.parts  # type: ignore[return-value]
        return joined(chain(*(side(part) if isinstance(part, Swap) else (part,) for part in self.parts)))

    @property
    def text(self) -> str:
        """The words without their weights."""
        return " ".join(fragment.text for fragment in self.fragments)

    @property
    def is_plain(self) -> bool:
        return not self.swaps and all(fragment.weight == 1 for fragment in self.fragments)


@dataclass(frozen=True)
class Blend:
    """Prompts whose conditionings are mixed."""

    prompts: tuple[Prompt, ...]
    weights: tuple[float, ...]
    #: The weights are divided by their sum.
    is_normalized: bool = True


@dataclass(frozen=True)
class Conjunction:
    """Prompts that the picture follows one beside the other; nearly always a single one."""

    prompts: tuple[Prompt | Blend, ...] = (Prompt(),)
    weights: tuple[float, ...] = (1.0,)

    @property
    def plain_text(self) -> str | None:
        """The text, when there is nothing but text in it; else None."""
        only = self.prompts[0]
        if len(self.prompts) > 1 or self.weights != (1,) or isinstance(only, Blend) or not only.is_plain:
            return None
        return only.text

    @property
    def texts(self) -> Iterator[Prompt]:
        """The prompts that are encoded, in their order."""
        for prompt in self.prompts:
            yield from prompt.prompts if isinstance(prompt, Blend) else (prompt,)

    @property
    def text(self) -> str:
        """All its words."""
        return " ".join(prompt.text for prompt in self.texts)

    @property
    def swapped(self) -> Prompt | None:
        """The prompt that has swaps; only one that stands alone can have any."""
        only = self.prompts[0]
        return only if isinstance(only, Prompt) and only.swaps else None

    @property
    def original(self) -> Conjunction:
        """The tree before any swap."""
        only = self.swapped
        return self if only is None else replace(self, prompts=(Prompt(only.fragments),))

    @property
    def edited(self) -> Conjunction:
        """The tree after all swaps."""
        only = self.swapped
        return self if only is None else replace(self, prompts=(Prompt(only.edited),))

    @property
    def words(self) -> str:
        """All its words, those before and those after swaps."""
        return f"{self.text} {self.edited.text}" if self.swapped else self.text

    def written(self, write: Callable[[str], str]) -> Conjunction:
        """The tree with each of its texts written otherwise."""
        return replace(self, prompts=tuple(_written(prompt, write) for prompt in self.prompts))


def _written(prompt: Prompt | Blend, write: Callable[[str], str]) -> Prompt | Blend:
    def of(fragments: tuple[Fragment, ...]) -> tuple[Fragment, ...]:
        return tuple(replace(each, text=write(each.text)) for each in fragments)

    if isinstance(prompt, Blend):
        parts = [_written(each, write) for each in prompt.prompts]
        return replace(prompt, prompts=tuple(part for part in parts if isinstance(part, Prompt)))
    return Prompt(
        tuple(
            replace(part, original=of(part.original), edited=of(part.edited))
            if isinstance(part, Swap)
            else replace(part, text=write(part.text))
            for part in prompt.parts
        )
    )


def plain(text: str) -> Conjunction:
    """A text that is nothing but text."""
    return Conjunction((Prompt((Fragment(text),) if text else ()),))


def prompt_of(parts: Iterable[Part]) -> Prompt:
    """The parts as one prompt: empty ones left out, neighbours of one weight joined, white space made single."""
    made: list[Fragment | Swap] = []
    words: list[Fragment] = []
    # Words are never joined over the border of a swap, whose tokens are counted.
    for part in parts:
        if isinstance(part, Fragment):
            words.append(part)
        elif isinstance(part, Swap):
            made.extend([*joined(words), part])
            words.clear()
    return Prompt((*made, *joined(words)))


def joined(parts: Iterable[Part]) -> tuple[Fragment, ...]:
    """The words of parts: empty ones left out, neighbours of one weight joined, white space made single."""
    words = [(each.text.split(), each.weight) for each in parts if isinstance(each, Fragment)]
    by_weight = groupby((each for each in words if each[0]), key=lambda each: each[1])
    return tuple(Fragment(" ".join(chain(*(text for text, _ in group))), weight) for weight, group in by_weight)


@dataclass
class Remarks:
    """What a reader has to say about a prompt besides its tree."""

    #: What keeps it from being rendered: (message, hint).
    problems: list[tuple[str, str]] = field(default_factory=list)
    #: What was read otherwise than its writer may think.
    warnings: list[str] = field(default_factory=list)
    #: The LoRAs that are named among the words.
    attached: list[Attached] = field(default_factory=list)

    def refuse(self, message: str, hint: str) -> None:
        if (message, hint) not in self.problems:
            self.problems.append((message, hint))

    def warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)

    def attach(self, lora: Attached) -> None:
        if lora not in self.attached:
            self.attached.append(lora)
