"""What prompts of InvokeAI 2 could say besides: `[what not to show]`, and `blue sphere:0.25 red cube:0.75`.

Called by `understand`, before the rest of InvokeAI's syntax, and by the readers of 2.3's commands and records. A
backslash before a bracket or a colon makes it a plain one.
"""

from __future__ import annotations

import re

from invokeai_daemon.job.prompt.invokeai import MOST, parse
from invokeai_daemon.job.prompt.tree import Blend, Conjunction, Prompt, Remarks

_NEGATIVE = re.compile(r"(?<!\\)\[([^\]]*)\]")
_ESCAPED = re.compile(r"\\([\[\]:])")
#: 2.3 took any colon for the end of a part, so that "portrait: a woman" was a blend of two; here it takes a number, and
#: one that is no time of the day, ratio or weight in parentheses.
_WEIGHT = re.compile(r"(?<![\\\d\s]):(-?\d+(?:\.\d+)?)(?=[\s,]|$)[\s,]*")


def split_negative(prompt: str) -> tuple[str, str | None]:
    """A prompt with `[what not to show]` in brackets as two prompts; None when it has no brackets."""
    parts = _NEGATIVE.findall(prompt)
    if not parts:
        return prompt, None
    return _collapsed(_NEGATIVE.sub(" ", prompt)), _collapsed(" ".join(parts))


def weighted_parts(text: str) -> list[tuple[str, float]]:
    """The parts of `blue sphere:0.25 red cube:0.75 hybrid` with their weights; none when the text has no such parts."""
    parts: list[tuple[str, float]] = []
    start = 0
    for found in _WEIGHT.finditer(text):
        parts.append((text[start : found.start()], float(found[1])))
        start = found.end()
    if rest := text[start:].strip():
        parts.append((rest, 1.0))
    return parts if len(parts) > 1 else []


def blend_of(parts: list[tuple[str, float]], remarks: Remarks, is_normalized: bool = True) -> Conjunction:
    """Weighted parts as a blend, each read as a prompt of its own."""
    prompts: list[Prompt] = []
    for text, _ in parts:
        only = parse(unescaped(text), remarks).prompts[0]
        first = only if isinstance(only, Prompt) else only.prompts[0]
        if first.swaps:
            remarks.refuse("A .swap(…) cannot stand in a blend.", "Write one of the two, or make a job for each.")
        prompts.append(Prompt(first.fragments))
    weights = [max(-MOST, min(weight, MOST)) for _, weight in parts]
    if is_normalized and sum(weights) == 0:
        remarks.warn("the weights of the prompt's parts sum up to 0; each counted the same")
        weights = [1.0] * len(weights)
    return Conjunction((Blend(tuple(prompts), tuple(weights), is_normalized),))


def unescaped(text: str) -> str:
    """A text whose brackets and colons mean nothing any more."""
    return _ESCAPED.sub(r"\1", text)


def escaped(text: str) -> str:
    """A prompt of InvokeAI 3 or later, where brackets and colons mean nothing, for a reader to whom they do."""
    means = split_negative(text)[1] is not None or weighted_parts(text) or _ESCAPED.search(text)
    return re.sub(r"[\[\]:]", r"\\\g<0>", text) if means else text


def _collapsed(text: str) -> str:
    return re.sub(r" {2,}", " ", text).strip()
