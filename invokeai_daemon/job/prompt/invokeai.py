"""InvokeAI's prompt syntax: `(a cat)1.3`, `fluffy++`, `cat.swap(dog)`, `("a", "b").blend(1, 2)`, `("a", "b").and()`.

Called by `understand`. What fits no rule is words. The rules are those of compel, InvokeAI's own parser, which cannot
be used here since it imports torch; the tests compare the two.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from invokeai_daemon.job.prompt.tree import (
    Attached,
    Blend,
    Conjunction,
    Fragment,
    Part,
    Prompt,
    Remarks,
    Swap,
    Window,
    joined,
    plain,
    prompt_of,
)
from invokeai_daemon.strict_toml import show

MORE, LESS = 1.1, 0.9
#: No weight is more.
MOST = 1000.0
#: Groups in groups beyond this are words.
DEEPEST = 40

_SPECIAL = r'()",.+\-='
_WORD = re.compile(rf"(?:\\[{_SPECIAL}]|[+-](?![\s{_SPECIAL}]|$)|-?\d+|[^\s{_SPECIAL}])++")
_ESCAPED = re.compile(rf"\\([{_SPECIAL}])")
_NUMBER = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+)|-?\d+")
_OPERATOR = re.compile(r"\++|-+|\d+\.\d*|\.\d+|\d+")
_ATTEND = re.compile(r"\.attend\(\s*(\++|-+|[+-]?(?:\d+\.\d*|\.\d+)|-?\d+)\s*\)")
_OPTION = re.compile(r"\s*(?:[\w-]+\s*=\s*[\w.+-]+|[\w.+-]+)\s*")
_LORA = re.compile(r"(?:withLora|useLora)\(([^(),]*)(?:,([^()]*))?\)")
#: What file names of LoRAs end with; in a prompt they may.
_SUFFIX = re.compile(r"\.(?:safetensors|ckpt|pt|bin)$", re.IGNORECASE)
#: What `.swap(…)` can be told.
_WINDOW = tuple(each.name for each in fields(Window))
_FREEDOM = "shape_freedom"
_QUOTED = re.compile(r'"((?:\\"|[^"])*+)"')
_SPACE = re.compile(r"\s*")
_FREE_WORD = re.compile(r"\S+")
_CALL = re.compile(r"\.(blend|and|add|swap|attend)\(")
_TIGHT_COMMA = re.compile(r"(?<!\\),(?=\S)")
_A1111_WEIGHT = re.compile(r"(?<!\\)\([^():]+:\s*(?:\d+(?:\.\d+)?|\.\d+)\s*\)")


def parse(text: str, remarks: Remarks) -> Conjunction:
    """The tree of a prompt. Never fails; what keeps the prompt from being rendered is a problem in `remarks`."""
    spaced = _TIGHT_COMMA.sub(", ", text).strip()
    reader = _Reader(spaced, remarks)
    tree = reader.conjunction() or reader.blend() or Conjunction((reader.whole(reader.prompt()),))
    _warn_of_near_misses(text, tree, remarks)
    words = tree.plain_text
    return plain(text) if words is not None and _packed(words) == _packed(text) else tree


@dataclass(frozen=True)
class _Read:
    """Something that was read, and where it ended."""

    parts: tuple[Part, ...]
    end: int


class _Reader:
    """One text. The methods take a position and give what stands there, or None."""

    def __init__(self, text: str, remarks: Remarks, depth: int = 0) -> None:
        self.text, self.remarks, self.depth = text, remarks, depth
        #: Targets and swaps by position: nested ones would be read again and again.
        self._targets: dict[int, _Read | None] = {}
        self._swaps: dict[int, _Read | None] = {}

    # The whole text

    def conjunction(self) -> Conjunction | None:
        """`("a cat", "a dog").and(1, 0.5)`"""
        found = self._call(0, ("and", "add"))
        if found is None:
            return None
        prompts, options, end = found
        weights = self._weights("and", prompts, options)
        if rest := self.text[end:].strip():
            self.remarks.warn(f"nothing can follow .and(…); this had no effect: {show(rest)}")
        return Conjunction(prompts, weights)

    def blend(self) -> Conjunction | None:
        """`("a cat", "a dog").blend(1, 0.5, no_normalize)`"""
        before = self._loras(0)
        found = self._call(before.end, ("blend",))
        if found is None:
            return None
        prompts, options, end = found
        after = self._loras(end)
        self._attach((*before.parts, *after.parts))
        is_normalized = not options or options[-1] != "no_normalize"
        weights = self._weights("blend", prompts, options if is_normalized else options[:-1])
        if rest := self.text[after.end :].strip():
            hint = "Put all of the prompt into the quoted parts of the blend."
            self.remarks.refuse(f"Nothing can follow .blend(…), but {show(rest)} does.", hint)
        if is_normalized and sum(weights) == 0:
            self.remarks.refuse("The weights of .blend(…) sum up to 0.", "Change one, or add no_normalize.")
        return Conjunction((Blend(prompts, weights, is_normalized),))

    def prompt(self) -> list[Part]:
        """Words, and among them what has a meaning."""
        parts: list[Part] = []
        position = self._space(0)
        while position < len(self.text):
            read = self._part(position, is_strict=False) or self._free_word(position)
            parts.extend(read.parts)
            position = self._space(read.end)
        return parts

    def strict(self) -> tuple[Part, ...] | None:
        """The same where every character must have its meaning."""
        read = self._parts(0, ",.")
        return read.parts if read.end == len(self.text) else None

    def whole(self, parts: Iterable[Part]) -> Prompt:
        """Parts as a prompt; the LoRAs among them are remarked."""
        parts = tuple(parts)
        self._attach(parts)
        return prompt_of(parts)

    def _attach(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if isinstance(part, Attached):
                self.remarks.attach(part)

    # Parts

    def _parts(self, position: int, marks: str) -> _Read:
        """Parts one after the other; `marks` can stand between them as words."""
        parts: list[Part] = []
        position = self._space(position)
        while position < len(self.text):
            read = self._part(position, is_strict=True)
            if read is None and self.text[position] in marks:
                read = _Read((Fragment(self.text[position]),), position + 1)
            if read is None:
                break
            parts.extend(read.parts)
            position = self._space(read.end)
        return _Read(tuple(parts), position)

    def _part(self, position: int, is_strict: bool) -> _Read | None:
        if (lora := self._lora(position)) is not None:
            return lora
        target = self._target(position)
        if target is None:
            return None
        if (swapped := self._swap(target)) is not None:
            return swapped
        is_word = self.text[position] not in '("'
        return self._weighted(target, is_word) or (target if is_strict or not is_word else None)

    def _weighted(self, target: _Read, is_word: bool) -> _Read | None:
        if found := _ATTEND.match(self.text, self._space(target.end)):
            sign, end = found[1], found.end()
        elif (found := _OPERATOR.match(self.text, target.end)) and not (is_word and found[0][0] not in "+-"):
            sign, end = found[0], found.end()
        else:
            return None
        return _Read(tuple(weighted(target.parts, _weight(sign))), end)

    def _swap(self, target: _Read) -> _Read | None:
        """`(cat).swap(dog, t_start=0.2)`."""
        start = self._space(target.end)
        if not self.text.startswith(".swap(", start) or self.depth >= DEEPEST:
            return None
        if start not in self._swaps:
            self.depth += 1
            self._swaps[start] = self._swap_from(target, start + len(".swap("))
            self.depth -= 1
        return self._swaps[start]

    def _swap_from(self, target: _Read, position: int) -> _Read | None:
        edited = self._parts(position, "")
        window, position = Window(), edited.end
        if self.text.startswith(",", position):
            options = self._options(position + 1)
            if options is None:
                return None
            window, position = self._window(options[0]), options[1]
        if not self.text.startswith(")", position):
            return None
        nested = [part for part in (*target.parts, *edited.parts) if isinstance(part, Swap)]
        if nested:
            self.remarks.refuse("A .swap(…) stands in another one.", "Write one behind the other.")
        attached = tuple(part for part in (*target.parts, *edited.parts) if isinstance(part, Attached))
        return _Read((Swap(joined(target.parts), joined(edited.parts), window), *attached), position + 1)

    def _window(self, options: list[str]) -> Window:
        """`t_start=0.2, t_end=1, s_end=0.3`, or the `shape_freedom` that the older InvokeAI had for it."""
        said: dict[str, float] = {}
        for option in options:
            name, _, value = (each.strip() for each in option.partition("="))
            if name not in (*_WINDOW, _FREEDOM):
                message = f".swap(…) has no option {show(name)}."
                self.remarks.refuse(message, f"Use {', '.join(_WINDOW)} or {_FREEDOM}, each with = and a number.")
            elif not _NUMBER.fullmatch(value) or not 0 <= float(value) <= 1:
                self.remarks.refuse(f"{show(option)} is no option of .swap(…).", "Use a number from 0 to 1.")
            else:
                said[name] = float(value)
        freedom = said.pop(_FREEDOM, None)
        eased = {} if freedom is None else {"s_end": 1 - freedom ** (1 / 3)}
        return Window(**{**eased, **said})

    def _target(self, position: int) -> _Read | None:
        """What an operator can stand behind: `"quoted"`, `(a group)` or a word."""
        if position not in self._targets:
            self._targets[position] = self._quoted(position) or self._group(position) or self._word(position)
        return self._targets[position]

    def _quoted(self, position: int) -> _Read | None:
        found = _QUOTED.match(self.text, position)
        parts = self._inside(found[1]).strict() if found and self.depth < DEEPEST else None
        return _Read(parts, found.end()) if found and parts is not None else None

    def _group(self, position: int) -> _Read | None:
        if not self.text.startswith("(", position) or self.depth >= DEEPEST:
            return None
        self.depth += 1
        inner = self._parts(position + 1, ",.")
        self.depth -= 1
        return _Read(inner.parts, inner.end + 1) if self.text.startswith(")", inner.end) else None

    def _word(self, position: int) -> _Read | None:
        found = _WORD.match(self.text, position)
        return _Read((Fragment(_unescaped(found[0])),), found.end()) if found else None

    def _free_word(self, position: int) -> _Read:
        found = _FREE_WORD.match(self.text, position)
        assert found is not None
        return _Read((Fragment(_unescaped(found[0])),), found.end())

    def _lora(self, position: int) -> _Read | None:
        """`withLora(name, 0.8)`."""
        found = _LORA.match(self.text, position)
        if found is None:
            return None
        weight = found[2] if found[2] is None or found[2].strip() else "none"
        return _Read((lora_of(found[1], weight),), found.end())

    def _loras(self, position: int) -> _Read:
        parts: list[Part] = []
        while (lora := self._lora(self._space(position))) is not None:
            parts.extend(lora.parts)
            position = lora.end
        return _Read(tuple(parts), self._space(position))

    # Calls over several prompts

    def _call(self, position: int, names: tuple[str, ...]) -> tuple[tuple[Prompt, ...], list[str], int] | None:
        """`(item, item).name(option, option)`: the items, the options and the end."""
        if not self.text.startswith("(", position):
            return None
        prompts: list[tuple[Part, ...]] = []
        while not prompts or self.text.startswith(",", position):
            item = self._item(self._space(position + 1))
            if item is None:
                return None
            prompts.append(item.parts)
            position = self._space(item.end)
        if not self.text.startswith(")", position):
            return None
        found = _CALL.match(self.text, self._space(position + 1))
        if found is None or found[1] not in names:
            return None
        options = self._options(found.end())
        if options is None or not self.text.startswith(")", options[1]):
            return None
        wholes = tuple(self.whole(parts) for parts in prompts)
        if any(whole.swaps for whole in wholes):
            message = f"A .swap(…) cannot stand in .{found[1]}(…)."
            self.remarks.refuse(message, "Write one of the two, or make a job for each.")
        return tuple(Prompt(whole.fragments) for whole in wholes), options[0], options[1] + 1

    def _item(self, position: int) -> _Read | None:
        if (target := self._target(position)) is not None:
            return target
        # In quotes anything is a prompt.
        found = _QUOTED.match(self.text, position)
        return _Read(tuple(self._inside(found[1]).prompt()), found.end()) if found else None

    def _options(self, position: int) -> tuple[list[str], int] | None:
        options: list[str] = []
        while found := _OPTION.match(self.text, position):
            options.append(found[0].strip())
            position = found.end()
            if not self.text.startswith(",", position):
                return options, position
            position += 1
        return None if options else ([], self._space(position))

    def _weights(self, name: str, prompts: tuple[Prompt, ...], options: list[str]) -> tuple[float, ...]:
        if not options:
            return (1.0,) * len(prompts)
        wrong = [each for each in options if not _NUMBER.fullmatch(each) or abs(float(each)) > MOST]
        if wrong:
            rule = "Use numbers" + (" and, last, no_normalize." if name == "blend" else ".")
            self.remarks.refuse(f"{show(wrong[0])} is no weight of .{name}(…).", rule)
        elif len(options) != len(prompts):
            message = f"{_count(len(prompts), 'prompt')} and {_count(len(options), 'weight')} stand in .{name}(…)."
            self.remarks.refuse(message, "Write one weight for each prompt, or none.")
        else:
            return tuple(float(option) for option in options)
        return (1.0,) * len(prompts)

    def _inside(self, quoted: str) -> _Reader:
        """A reader of what stands in quotes, where quotes are words."""
        return _Reader(quoted, self.remarks, self.depth + 1)

    def _space(self, position: int) -> int:
        found = _SPACE.match(self.text, position)
        assert found is not None
        return found.end()


def weighted(parts: Iterable[Part], weight: float) -> list[Part]:
    """Parts with their weights multiplied."""
    return [_weighted(part, weight) for part in parts]


def _weighted(part: Part, weight: float) -> Part:
    if isinstance(part, Attached):
        return part
    if isinstance(part, Swap):
        sides = ([_of_weight(each, weight) for each in side] for side in (part.original, part.edited))
        original, edited = map(tuple, sides)
        return replace(part, original=original, edited=edited)
    return _of_weight(part, weight)


def _of_weight(fragment: Fragment, weight: float) -> Fragment:
    return Fragment(fragment.text, min(max(0.0, fragment.weight * weight), MOST))


def lora_of(name: str, weight: str | None = None, text_encoder_weight: str | None = None) -> Attached:
    """What a prompt says of a LoRA; weights that are no numbers are none that a job can have."""
    return Attached(_SUFFIX.sub("", name.strip()), _number(weight), _number(text_encoder_weight))


def _number(text: str | None) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        return math.nan


def _weight(sign: str) -> float:
    if sign[0] in "+-" and sign == sign[0] * len(sign):
        return float((MORE if sign[0] == "+" else LESS) ** min(len(sign), 500))
    return min(float(sign), MOST)


def _unescaped(word: str) -> str:
    return _ESCAPED.sub(r"\1", word)


def _packed(text: str) -> str:
    return "".join(text.split())


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _warn_of_near_misses(text: str, tree: Conjunction, remarks: Remarks) -> None:
    """Say what looks like syntax and was read as words."""
    if found := _CALL.search(tree.text):
        remarks.warn(f"{show(found[0] + '…)')} was read as words: it does not fit what stands around it")
    if found := _A1111_WEIGHT.search(text):
        remarks.warn(f'{show(found[0])} was read as words: prompt_syntax = "a1111" makes it a weight')
