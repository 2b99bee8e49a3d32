"""Triggers: the words of a prompt that mean embeddings, `<name>` or a bare name.

Called by the planner, which knows the embeddings, and by the engine, which puts their vectors in the words' place.
They are found in the text as it was written, so that no syntax can take them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from invokeai_daemon.job.prompt.tree import TRIGGER

#: LoRAs and their kin: what they are called is no word of the prompt.
_OTHERS = r"<(?:lora|lyco|hypernet):[^<>]*>|(?:withLora|useLora)\([^()]*\)"
#: What no name can begin or end beside: `art` is no word of `state-of-the-art`, nor `v1` of `v1.5`.
_BEFORE, _AFTER = r"(?<!\w)(?<!\w-)", r"(?!\w|-\w|\.\d)"


@dataclass(frozen=True)
class Known:
    """An embedding that prompts can name."""

    name: str
    #: What else means it: the words that it was trained with.
    words: tuple[str, ...] = ()

    @property
    def called(self) -> tuple[str, ...]:
        """All that means it, without <brackets>."""
        return tuple(bare(word) for word in (self.name, *self.words) if bare(word))


@dataclass(frozen=True)
class Triggers:
    """What a text says of embeddings."""

    #: From a trigger, as it stands in the text, to the embedding's name.
    known: Mapping[str, str]
    #: The names in <brackets> that no embedding has, with the brackets.
    unknown: tuple[str, ...]


def triggers_in(texts: Iterable[str], embeddings: Iterable[Known]) -> Triggers:
    """The triggers of some texts. Upper and lower case are the same, as they are to CLIP; a name goes before words."""
    by_word: dict[str, str] = {}
    for each in sorted(embeddings, key=lambda known: known.name):
        for word in each.called:
            by_word.setdefault(word.casefold(), each.name)
        by_word[each.name.casefold()] = each.name
    pattern = _pattern([TRIGGER.pattern, *_whole_words(by_word)], re.IGNORECASE)
    known: dict[str, str] = {}
    unknown: dict[str, None] = {}
    for text in texts:
        for written in _found(pattern, text):
            name = by_word.get(bare(written).casefold())
            if name is not None:
                known[written] = name
            else:
                unknown[written] = None
    return Triggers(known, tuple(unknown))


def replaced(text: str, by: Mapping[str, str]) -> str:
    """A text with other words in the place of its triggers, which are written exactly so."""
    if not by:
        return text
    pattern = _pattern(_whole_words(by), re.NOFLAG)
    return pattern.sub(lambda found: by[found["trigger"]] if found["trigger"] is not None else found[0], text)


def bare(trigger: str) -> str:
    """A trigger without its <brackets>."""
    return trigger[1:-1].strip() if trigger.startswith("<") and trigger.endswith(">") else trigger.strip()


def _found(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    return (found["trigger"] for found in pattern.finditer(text) if found["trigger"] is not None)


def _pattern(triggers: Iterable[str], flags: re.RegexFlag) -> re.Pattern[str]:
    return re.compile(f"{_OTHERS}|(?P<trigger>{'|'.join(triggers)})", flags)


def _whole_words(words: Iterable[str]) -> list[str]:
    """Patterns of words, the longest first, since it is the one that is meant."""
    longest = sorted(words, key=len, reverse=True)
    return [re.escape(word) if word.startswith("<") else f"{_BEFORE}{re.escape(word)}{_AFTER}" for word in longest]
