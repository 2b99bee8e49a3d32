"""Rules that the rooms of single parts share: what a name suggests, what is told, and how much of the file it is.

Used by the tables of embedding, vae, control, encoders, upscalers and others. What only a file name says is never a
fact: a choice that follows it (`Likely`) is marked as assumed. Never reads a tensor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from invokeai_daemon.models.identify.table import Answer, Choice, Decision, Rule, both, has
from invokeai_daemon.models.identify.weights import Weights, shorten

#: What is told of a name until it is known what was asked.
SO = "suggests so"
#: Metadata in which trainers and converters say what they started from, the most telling first.
SAID = ("modelspec.architecture", "ss_base_model_version", "base_model", "architecture")


@dataclass(frozen=True)
class Likely(Choice):
    """A choice that falls back on hints before its default: what a hint says is taken, and marked as assumed."""

    #: The first that holds is taken.
    hints: tuple[tuple[str, Rule], ...] = ()

    @property
    def words(self) -> frozenset[str]:
        return super().words | {word for word, _ in self.hints}

    def decide(self, weights: Weights) -> Decision:
        decision = super().decide(weights)
        if decision.word is not None and not decision.assumed:
            return decision
        answers = ((word, rule(weights)) for word, rule in self.hints)
        hint = next(((word, answer.says) for word, answer in answers if answer.holds), None)
        return Decision(hint[0], hint[1].replace(SO, f"suggests {hint[0]}"), assumed=True) if hint else decision


def named(*words: str) -> Rule:
    """The name of the file, or of the folder around it, has one of these words (regular expressions, lower case)."""
    expression = re.compile("|".join(words))

    def rule(weights: Weights) -> Answer:
        path = weights.header.path
        for name in (path.stem.lower(), path.parent.name.lower()):
            found = expression.search(name)
            if found:
                return Answer(True, f'its name {SO} ("{shorten(name)}")')
        return Answer(False, "its name does not say")

    return rule


def a_word(word: str) -> str:
    """The expression for a whole word in a name, where an underscore parts words as a hyphen does."""
    return rf"(?<![a-z]){word}(?![a-z])"


def said(*words: str) -> Rule:
    """The texts in the file name one of these words (regular expressions, lower case) as what it was made for."""
    expression = re.compile("|".join(words))

    def rule(weights: Weights) -> Answer:
        for key in SAID:
            value = weights.metadata.get(key, "").lower()
            if value and expression.search(value):
                return Answer(True, f"its metadata {key} says {shorten(value)}")
        return Answer(False, "its metadata do not say")

    return rule


def tells(what: Callable[[Weights], str]) -> Rule:
    """Always holds; adds a sentence to the evidence."""
    return lambda weights: Answer(True, what(weights))


def note(words: str) -> Rule:
    """Always holds; adds these words to the evidence."""
    return lambda weights: Answer(True, words)


def every(*names: str, called: str) -> Rule:
    """All of these are there (of a tuple: one of them); the first is told."""
    return both(has(names[0], called=called), *(_there(name) for name in names[1:]))


def _there(pattern: str) -> Rule:
    def rule(weights: Weights) -> Answer:
        return Answer(True) if weights.find(pattern) else Answer(False, f"it has no {pattern}")

    return rule


def most_of_it(weights: Weights) -> Answer:
    """What the rules look at is the file, not a part of a larger model. (A rule itself.)"""
    part, whole = len(weights), len(weights.whole)
    return Answer(part * 10 >= whole * 9, "" if part == whole else f"it is {part:,} of {whole:,} tensors of the file")


def scalar(*names: str) -> Rule:
    """A plain value of one of these names lies beside the tensors of a pickle."""

    def rule(weights: Weights) -> Answer:
        found = next((name for name in names if name in weights.scalars), None)
        return Answer(found is not None, f"it holds the value {found}" if found else f"it has no value {names[0]}")

    return rule


def size(weights: Weights, pattern: str, place: int) -> int | None:
    """How long an axis of a tensor is; None where there is no such tensor or axis."""
    found = weights.find(pattern)
    if found is None or not -len(found.shape) <= place < len(found.shape):
        return None
    return found.shape[place]


def first(weights: Weights, patterns: Iterable[str]) -> str:
    """The first of these patterns that names a tensor; empty when none does."""
    return next((pattern for pattern in patterns if weights.find(pattern)), "")
