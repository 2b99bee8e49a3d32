"""Trees as text again: in InvokeAI's syntax, which reads back the same, and as near as may be in AUTOMATIC1111's.

Called for the metadata of pictures and for prompt commands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from invokeai_daemon.job.prompt import invokeai, legacy
from invokeai_daemon.job.prompt.tree import Blend, Conjunction, Fragment, Prompt, Remarks, Swap, Window

_SPECIAL = re.compile(r'[()",.+\-=]')
#: What means something in InvokeAI 2 only.
_OLD_SPECIAL = re.compile(r"[\[\]:]")
_A1111_SPECIAL = re.compile(r"[()\[\]\\]")


def invokeai_text(tree: Conjunction, old: bool = True) -> str:
    """A tree in InvokeAI's syntax, escaped no more than needed.

    `old` is for readers that know the `[…]` and the `a:1 b:2` of InvokeAI 2, as jobs do; InvokeAI 3 and later do not.
    """
    candidates = [_whole(tree, _Escape(words, weighted, old)) for words, weighted in _ESCAPES]
    return next((text for text in candidates if _reads_as(text, tree, old)), candidates[-1])


def a1111_text(tree: Conjunction) -> str:
    """A tree in AUTOMATIC1111's syntax: a conjunction with BREAK; a blend, which it does not have, as its parts."""
    return " BREAK ".join(" ".join(_a1111_fragment(each) for each in prompt.fragments) for prompt in tree.texts)


def shown(tree: Conjunction) -> str:
    """A tree for people: `a, fluffy × 1.21, cat`."""
    only = tree.prompts[0]
    if len(tree.prompts) > 1 or tree.weights != (1,):
        return _listed("side by side", tree.prompts, tree.weights)
    if isinstance(only, Blend):
        return _listed("a blend" if only.is_normalized else "a blend, not normalized", only.prompts, only.weights)
    return _shown(only)


def _listed(what: str, prompts: tuple[Prompt | Blend, ...], weights: tuple[float, ...]) -> str:
    parts = (f"({_shown(each)}) × {weight:g}" for each, weight in zip(prompts, weights, strict=True))
    return f"{what}: {' and '.join(parts)}"


def _shown(prompt: Prompt | Blend) -> str:
    if isinstance(prompt, Blend):
        return _listed("a blend", prompt.prompts, prompt.weights)
    return " ".join(map(_shown_part, prompt.parts)) or '""'


def _shown_part(part: Fragment | Swap) -> str:
    if isinstance(part, Swap):
        sides = (" ".join(map(_shown_part, side)) or '""' for side in (part.original, part.edited))
        return f"({' → '.join(sides)})"
    return f'"{part.text}"' + (f" × {part.weight:.4g}" if part.weight != 1 else "")


@dataclass(frozen=True)
class _Escape:
    """What of a text gets a backslash."""

    #: In fragments of weight 1.
    words: bool
    #: In the others.
    weighted: bool
    old: bool


_USUAL = vars(Window())
#: The least first.
_ESCAPES = ((False, False), (False, True), (True, True))


def _reads_as(text: str, tree: Conjunction, old: bool) -> bool:
    if old and (legacy.split_negative(text)[1] is not None or legacy.weighted_parts(text)):
        return False
    remarks = Remarks()
    return invokeai.parse(legacy.unescaped(text) if old else text, remarks) == tree and not remarks.problems


def _whole(tree: Conjunction, escape: _Escape) -> str:
    only = tree.prompts[0]
    if len(tree.prompts) > 1 or tree.weights != (1,):
        # No syntax writes a blend in a conjunction.
        prompts = [each for each in tree.prompts if isinstance(each, Prompt)]
        return _call("and", prompts, [_number(weight) for weight in tree.weights], escape)
    if isinstance(only, Blend):
        options = [*(_number(weight) for weight in only.weights), *([] if only.is_normalized else ["no_normalize"])]
        return _call("blend", only.prompts, options, escape)
    return _prompt(only, escape)


def _call(name: str, prompts: Iterable[Prompt], options: list[str], escape: _Escape) -> str:
    parts = ", ".join(f'"{_closed(_prompt(prompt, escape))}"' for prompt in prompts)
    return f"({parts}).{name}({', '.join(options)})"


def _prompt(prompt: Prompt, escape: _Escape) -> str:
    return " ".join(_part(part, escape) for part in prompt.parts)


def _part(part: Fragment | Swap, escape: _Escape) -> str:
    return _swap(part, escape) if isinstance(part, Swap) else _fragment(part, escape)


def _swap(swap: Swap, escape: _Escape) -> str:
    # What stands in groups is escaped as what has a weight.
    inner = replace(escape, words=escape.weighted)
    original, edited = (
        _closed(" ".join(_fragment(each, inner) for each in side)) for side in (swap.original, swap.edited)
    )
    said = (f", {name}={_number(value)}" for name, value in vars(swap.window).items() if value != _USUAL[name])
    return f"({original}).swap(({edited}){''.join(said)})"


def _fragment(fragment: Fragment, escape: _Escape) -> str:
    text, is_weighted = fragment.text, fragment.weight != 1
    if escape.weighted if is_weighted else escape.words:
        text = _SPECIAL.sub(r"\\\g<0>", text)
        text = _OLD_SPECIAL.sub(r"\\\g<0>", text) if escape.old else text
    return f"({_closed(text)}){_number(fragment.weight)}" if is_weighted else text


def _closed(text: str) -> str:
    """A text before a closing mark, whose meaning a backslash must not take."""
    return f"{text} " if text.endswith("\\") else text


def _a1111_fragment(fragment: Fragment) -> str:
    text = _A1111_SPECIAL.sub(r"\\\g<0>", fragment.text)
    return text if fragment.weight == 1 else f"({text}:{_number(fragment.weight)})"


def _number(number: float) -> str:
    """Exactly, and without an exponent, which the syntaxes do not know."""
    return format(Decimal(repr(number)), "f")
