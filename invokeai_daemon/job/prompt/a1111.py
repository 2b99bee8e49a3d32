"""AUTOMATIC1111's prompt syntax: `(a cat:1.2)`, `((more))`, `[less]`, `BREAK`, `AND`, `<lora:name:0.8>`.

Called by `understand`. What fits no rule is words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from invokeai_daemon.job.prompt.invokeai import MOST, lora_of
from invokeai_daemon.job.prompt.tree import Attached, Conjunction, Fragment, Prompt, Remarks, plain, prompt_of
from invokeai_daemon.strict_toml import show

MORE = 1.1
#: Opened brackets beyond this are words.
DEEPEST = 40

_TOKEN = re.compile(r"\\[()\[\]\\]|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
_NETWORK = re.compile(r"<(lora|lyco|hypernet):([^:<>]*)((?::[^:<>]*)*)>")
_BRACKETS = re.compile(r"(?<!\\)\[([^\[\]]*)\]")
#: The end of `[from:to:when]`, `[to:when]` and `[from::when]`.
_WHEN = re.compile(r":\s*(?:\d+(?:\.\d+)?|\.\d+)\s*$")
_AND = re.compile(r"\bAND\b")
_BREAK = re.compile(r"\bBREAK\b")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?|\d+\.\d+|\.\d+)")
_SPECIAL = re.compile(r"[\\()\[\]<]|\bAND\b|\bBREAK\b")


def parse(text: str, remarks: Remarks) -> Conjunction:
    """The tree of a prompt. Never fails; what keeps the prompt from being rendered is a problem in `remarks`."""
    if not _SPECIAL.search(text):
        return plain(text)
    text = without_networks(text, remarks)
    for inner in _BRACKETS.findall(text):
        # These change the prompt from step to step, as does `[one|other]`.
        if "|" in inner or _WHEN.search(inner):
            message = f"Prompt editing is not supported yet, as in {show(f'[{inner}]')}."
            remarks.refuse(message, "Write one prompt for all steps.")
    parts = [_weight_of_part(part) for part in _AND.split(text)]
    if len(parts) > 1:
        remarks.warn("AND was read as InvokeAI's .and(…): AUTOMATIC1111 would denoise each part by itself")
    prompts = [(prompt_of(_fragments(chunk)), weight) for part, weight in parts for chunk in _BREAK.split(part)]
    # BREAK at an end, or twice, makes no empty prompt.
    kept = [(prompt, weight) for prompt, weight in prompts if prompt.fragments] or [(Prompt(), 1.0)]
    return Conjunction(tuple(prompt for prompt, _ in kept), tuple(weight for _, weight in kept))


def without_networks(text: str, remarks: Remarks) -> str:
    """A text without its `<lora:name:0.8>`, which are remarked."""
    for kind, name, options in _NETWORK.findall(text):
        if kind == "hypernet":
            remarks.refuse(f"The hypernetwork {show(name)} is not supported.", "Remove it.")
        else:
            remarks.attach(_network(name, options.split(":")[1:]))
    return _NETWORK.sub("", text)


def _network(name: str, options: list[str]) -> Attached:
    """`<lora:name:weight>`; of two weights the first is that of the text encoder. They may have names."""
    said = dict(option.split("=", 1) for option in options if "=" in option)
    counted = [option for option in options if "=" not in option]
    text_encoder = said.get("te", counted[0] if counted else None)
    unet = said.get("unet", counted[1] if len(counted) > 1 else text_encoder)
    return lora_of(name, unet, text_encoder if unet != text_encoder else None)


def _weight_of_part(part: str) -> tuple[str, float]:
    """`a cat :1.2` between two AND."""
    words, colon, number = part.rpartition(":")
    if colon and _NUMBER.fullmatch(number.strip()):
        return words, max(-MOST, min(float(number), MOST))
    return part, 1.0


def _fragments(text: str) -> Iterator[Fragment]:
    """Fragments with their weights. A bracket that is not closed reaches to the end; a stray closing one is a word."""
    words: list[str] = []
    weights: list[float] = []
    #: Where each open bracket began, by kind.
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(kind: str, weight: float) -> None:
        start = opened[kind].pop()
        weights[start:] = [min(max(0.0, each * weight), MOST) for each in weights[start:]]

    for found in _TOKEN.finditer(text):
        token, number = found[0], _number(found[1])
        if token in opened and len(opened[token]) < DEEPEST:
            opened[token].append(len(words))
        elif number is not None and opened["("]:
            close("(", number)
        elif token == ")" and opened["("]:
            close("(", MORE)
        elif token == "]" and opened["["]:
            close("[", 1 / MORE)
        else:
            words.append(token[1:] if len(token) == 2 and token[0] == "\\" else token)
            weights.append(1.0)
    for kind, weight in (("(", MORE), ("[", 1 / MORE)):
        while opened[kind]:
            close(kind, weight)
    # Where only brackets were between two words, no space was.
    for weight, group in groupby(zip(words, weights, strict=True), key=lambda each: each[1]):
        yield Fragment("".join(word for word, _ in group), weight)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else min(float(text), MOST)
    except ValueError:
        return None
