"""The tree of a prompt: what every syntax is read into, and all that the engine encodes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, groupby

#: What InvokeAI takes for the name of an embedding in a prompt.
_TRIGGER = re.compile(r"<([a-zA-Z0-9](?:[a-zA-Z0-9., _-]*[a-zA-Z0-9_-])?)>")


@dataclass(frozen=True)
class Fragment:
    """Words with one weight."""

    text: str
    #: 1 as they are, more for more of them, 0 for none; never negative.
    weight: float = 1.0


@dataclass(frozen=True)
class Prompt:
    """Fragments that are encoded together, in their order."""

    fragments: tuple[Fragment, ...] = ()

    @property
    def text(self) -> str:
        """The words without their weights."""
        return " ".join(fragment.text for fragment in self.fragments)

    @property
    def is_plain(self) -> bool:
        return all(fragment.weight == 1 for fragment in self.fragments)


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
    def triggers(self) -> tuple[str, ...]:
        """The names in <angle brackets>, which mean embeddings."""
        return tuple(dict.fromkeys(_TRIGGER.findall(self.text)))


def plain(text: str) -> Conjunction:
    """A text that is nothing but text."""
    return Conjunction((Prompt((Fragment(text),) if text else ()),))


def prompt_of(fragments: Iterable[Fragment]) -> Prompt:
    """The fragments as one prompt: empty ones left out, neighbours of one weight joined, white space made single."""
    words = [(each.text.split(), each.weight) for each in fragments]
    by_weight = groupby((each for each in words if each[0]), key=lambda each: each[1])
    return Prompt(tuple(Fragment(" ".join(chain(*(text for text, _ in group))), weight) for weight, group in by_weight))


@dataclass
class Remarks:
    """What a reader has to say about a prompt besides its tree."""

    #: What keeps it from being rendered: (message, hint).
    problems: list[tuple[str, str]] = field(default_factory=list)
    #: What was read otherwise than its writer may think.
    warnings: list[str] = field(default_factory=list)

    def refuse(self, message: str, hint: str) -> None:
        if (message, hint) not in self.problems:
            self.problems.append((message, hint))

    def warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)
