"""Tables: what a row that describes a kind of model consists of, and how a file is held against it.

A row (`Family`) is data: rules over `Weights`, each with the words for what was seen, whether it holds or not. The
first rules are its marks: only where they hold the family is near enough to be named when it is ruled out. Every room
(`main`, `lora`, `vae`, …) exports its rows; the order of rows says nothing, and two that fit are a tie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from invokeai_daemon.models.identify.weights import Weights, shorten
from invokeai_daemon.models.identity import Need


class Answer(NamedTuple):
    """What a rule says of a file."""

    holds: bool
    #: What was seen, as the end of "… because": true whether the rule holds or not. Empty when it is not worth telling.
    says: str = ""


#: One condition on a file.
Rule = Callable[[Weights], Answer]


def has(*patterns: str, called: str) -> Rule:
    """A tensor is named by one of the patterns; `called` is what that shows, with its article."""

    def rule(weights: Weights) -> Answer:
        found = weights.find(*patterns)
        if found:
            return Answer(True, f"it has {called} ({shorten(found.name)})")
        return Answer(False, f"it has no {_without_article(called)}")

    return rule


def lacks(*patterns: str, called: str) -> Rule:
    """No tensor is named by any of the patterns."""

    def rule(weights: Weights) -> Answer:
        found = weights.find(*patterns)
        return Answer(False, f"it has {called} ({shorten(found.name)})") if found else Answer(True)

    return rule


def axis(patterns: str | Iterable[str], place: int, *sizes: int, called: str) -> Rule:
    """The first tensor that a pattern names has one of these sizes along an axis. `called`: "context width".

    Tensors whose values are packed into bytes are passed over: their shapes are not those of the network.
    """
    wanted = (patterns,) if isinstance(patterns, str) else tuple(patterns)

    def rule(weights: Weights) -> Answer:
        found = next((found for pattern in wanted if (found := weights.find(pattern)) and not found.packed), None)
        if found is None or not -len(found.shape) <= place < len(found.shape):
            return Answer(False, f"its {called} was not found")
        size = found.shape[place]
        seen = f"{shorten(found.name)} has {called} {size}"
        return Answer(True, seen) if size in sizes else Answer(False, f"{seen}, not {_any_of(sizes)}")

    return rule


def rank(patterns: str | Iterable[str], *ranks: int, called: str) -> Rule:
    """The first tensor that a pattern names has so many axes; `called` says what that means: "a convolution"."""
    wanted = (patterns,) if isinstance(patterns, str) else tuple(patterns)

    def rule(weights: Weights) -> Answer:
        found = weights.find(*wanted)
        if found is None:
            return Answer(False, f"it has no {wanted[0]}")
        holds = len(found.shape) in ranks
        return Answer(holds, f"{shorten(found.name)} is {'' if holds else 'not '}{called}")

    return rule


def metadata(key: str, *values: str) -> Rule:
    """The texts of the file say so (compared in lower case)."""

    def rule(weights: Weights) -> Answer:
        said = weights.metadata.get(key)
        if said is None:
            return Answer(False, f"its metadata have no {key}")
        return Answer(said.lower() in values, f"its metadata {key} says {shorten(said)}")

    return rule


def either(*rules: Rule) -> Rule:
    """One of the rules holds; what it saw is told, or else what the first one saw."""

    def rule(weights: Weights) -> Answer:
        answers = [each(weights) for each in rules]
        return next((answer for answer in answers if answer.holds), answers[0])

    return rule


def both(*rules: Rule) -> Rule:
    """All of the rules hold; what each saw is told, or else what the first that does not hold saw."""

    def rule(weights: Weights) -> Answer:
        answers = [each(weights) for each in rules]
        failed = next((answer for answer in answers if not answer.holds), None)
        return failed or Answer(True, ", and ".join(answer.says for answer in answers if answer.says))

    return rule


def unless(inner: Rule) -> Rule:
    """The condition does not hold; nothing is told."""
    return lambda weights: Answer(not inner(weights).holds)


def whole(inner: Rule) -> Rule:
    """The condition is on the whole file, not on the view of the family."""
    return lambda weights: inner(weights.whole)


def blocks(stem: str, *numbers: int, called: str) -> Rule:
    """So many blocks are numbered after a stem: 19 after "double_blocks."."""

    def rule(weights: Weights) -> Answer:
        count = weights.count(stem)
        seen = f"it has {count} {called} ({stem}…)"
        return Answer(True, seen) if count in numbers else Answer(False, f"{seen}, not {_any_of(numbers)}")

    return rule


def fact(known: Callable[[Weights], str | None], *words: str) -> Rule:
    """A fact about the file, worked out once, is one of these words."""

    def rule(weights: Weights) -> Answer:
        said = weights.ask(known)
        return Answer(said in words, f"it is {said}" if said else "")

    return rule


def quietly(inner: Rule) -> Rule:
    """The same condition, not told as evidence when it holds."""

    def rule(weights: Weights) -> Answer:
        answer = inner(weights)
        return Answer(True) if answer.holds else answer

    return rule


@dataclass(frozen=True)
class Choice:
    """A word of the identity that the file decides: the one whose rule holds."""

    options: tuple[tuple[str, Rule], ...]
    #: Taken, and marked as assumed, where no rule holds; None leaves it open.
    default: str | None = None

    @property
    def words(self) -> frozenset[str]:
        """All that it can come to."""
        return frozenset([word for word, _ in self.options] + ([self.default] if self.default else []))

    def decide(self, weights: Weights) -> Decision:
        answers = [(word, rule(weights)) for word, rule in self.options]
        # Several tensors may say the same word; the first one is told.
        held = {word: answer.says for word, answer in reversed(answers) if answer.holds}
        if len(held) == 1:
            ((word, says),) = held.items()
            return Decision(word, says)
        return Decision(self.default, assumed=self.default is not None, torn=tuple(sorted(held)))


class Decision(NamedTuple):
    """What a choice came to."""

    word: str | None
    says: str = ""
    #: Nothing in the file decides it; the documented default was taken.
    assumed: bool = False
    #: The words that were equally well founded.
    torn: tuple[str, ...] = ()


def always(word: str) -> Choice:
    """A word that belongs to the family itself: no fact is needed beyond those that make it the family."""
    return Choice(((word, lambda weights: Answer(True)),))


#: A word that the family does not have.
NONE = Choice(())


def nothing_else(weights: Weights) -> Iterable[Need]:
    """The needs of a family whose files are whole."""
    return ()


def nothing_doubtful(weights: Weights) -> str:
    """The doubts about a family that its facts settle."""
    return ""


@dataclass(frozen=True)
class Family:
    """A kind of model, in InvokeAI's words."""

    type: str
    #: One of InvokeAI's bases, or the choice between several.
    base: str | Choice
    #: How a sentence calls it, with its article: "an SDXL checkpoint".
    name: str
    #: Where all hold, the family is near enough to be named.
    marks: tuple[Rule, ...]
    rules: tuple[Rule, ...] = ()
    #: Wrappers around its names, the likeliest first; rules see the names without them.
    under: tuple[str, ...] = ("",)
    format: str | Choice = "checkpoint"
    variant: Choice = NONE
    prediction_type: Choice = NONE
    #: How the names are written, where there are several ways (LoRA).
    dialect: Choice = NONE
    #: Why it cannot be used, and what to do; empty when it can. A function where it depends on the file.
    unusable: str | Callable[[Weights], str] = ""
    #: The same, unless a sidecar says its base: then its user knows better.
    doubtful: Callable[[Weights], str] = nothing_doubtful
    #: What it cannot be used without and is not in this file.
    needs: Callable[[Weights], Iterable[Need]] = nothing_else
    #: Types whose rows give way when this one fits too: a main model with merged LoRA keys is a main model.
    before: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        base = self.base if isinstance(self.base, str) else "unknown"
        return self.type if base in ("unknown", "any") else f"{base} {self.type}"

    @property
    def only_named(self) -> bool:
        """Whether nothing of this kind can be used."""
        return isinstance(self.unusable, str) and bool(self.unusable)

    @property
    def bases(self) -> frozenset[str]:
        """The bases that it may have."""
        return frozenset([self.base]) if isinstance(self.base, str) else self.base.words

    def held_against(self, weights: Weights) -> Match:
        """What its rules say of a file."""
        view = weights.under(self.under)
        marks = []
        for mark in self.marks:
            marks.append(mark(view))
            if not marks[-1].holds:
                return Match(self, view, tuple(marks), False)
        return Match(self, view, (*marks, *(rule(view) for rule in self.rules)), True)


@dataclass(frozen=True)
class Match:
    """A family held against a file."""

    family: Family
    #: What of the file the rules looked at.
    view: Weights
    #: What they said, the marks first; those after a mark that does not hold were not asked.
    answers: tuple[Answer, ...]
    #: Whether all marks hold.
    near: bool

    @property
    def fits(self) -> bool:
        return self.near and all(answer.holds for answer in self.answers)

    @property
    def share(self) -> float:
        """The share of the rules that hold."""
        return sum(answer.holds for answer in self.answers) / len(self.answers)

    @property
    def evidence(self) -> Iterator[str]:
        return (answer.says for answer in self.answers if answer.holds and answer.says)

    @property
    def against(self) -> tuple[str, ...]:
        """What rules the family out."""
        return tuple(answer.says for answer in self.answers if not answer.holds)


def _any_of(sizes: Iterable[int]) -> str:
    return " or ".join(map(str, sizes))


def _without_article(words: str) -> str:
    for article in ("a ", "an ", "the "):
        words = words.removeprefix(article)
    return words
