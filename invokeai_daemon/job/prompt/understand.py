"""How the prompts of an image are understood: their trees, what is wrong with them, what may surprise.

Called by the planner, which refuses what cannot be rendered; by the engine, which encodes the trees; and by `check`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from invokeai_daemon.errors import Problem
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.prompt import a1111, invokeai, legacy
from invokeai_daemon.job.prompt.printing import a1111_text, invokeai_text
from invokeai_daemon.job.prompt.tree import TRIGGER, Conjunction, Remarks, plain
from invokeai_daemon.job.schema.adapters import Lora
from invokeai_daemon.strict_toml import show

Syntax = Literal["invokeai", "a1111", "plain"]
SYNTAXES: tuple[str, ...] = get_args(Syntax)
#: A LoRA's weight is no more, in a prompt as in a job.
HEAVIEST = 10
#: While a text is read, each `<name>` is one of these characters, which no syntax knows: Unicode's second plane for
#: private use. Those of the first stand for embeddings when the engine reads a text.
_HIDDEN = range(0x100000, 0x10FFFE)
_HIDDEN_ONE = re.compile(f"[{chr(_HIDDEN.start)}-{chr(_HIDDEN.stop)}]")


@dataclass(frozen=True)
class Understood:
    """The two prompts of an image."""

    positive: Conjunction
    negative: Conjunction
    #: What SDXL's second text encoder reads instead; None where it reads the same.
    style: Conjunction | None = None
    negative_style: Conjunction | None = None
    #: The LoRAs that the prompt names. The planner adds them to those of the job.
    loras: tuple[Lora, ...] = ()
    #: What keeps them from being rendered; their keys are a job's.
    problems: tuple[Problem, ...] = ()
    #: What was read otherwise than its writer may think.
    warnings: tuple[str, ...] = ()
    #: Whether either text names LoRAs, with or without effect.
    names_loras: bool = False


def understood(image: Image) -> Understood:
    """The prompts of an image of a plan."""
    style = image.style_prompt, image.negative_style_prompt
    return understand(image.prompt, image.negative_prompt, image.prompt_syntax, *style)


@lru_cache(maxsize=256)
def understand(
    prompt: str,
    negative_prompt: str,
    syntax: str,
    style_prompt: str | None = None,
    negative_style_prompt: str | None = None,
) -> Understood:
    """The prompts of an image in one of the SYNTAXES. Never fails."""
    if syntax == "invokeai":
        prompt, bracketed = legacy.split_negative(prompt)
        negative_prompt = ", ".join(text for text in (negative_prompt, bracketed) if text)
    texts = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "style_prompt": style_prompt,
        "negative_style_prompt": negative_style_prompt,
    }
    given = {key: text for key, text in texts.items() if text is not None}
    remarks = {key: Remarks() for key in given}
    trees = {key: read(text, syntax, remarks[key]) for key, text in given.items()}
    for key in given.keys() - {"prompt"}:
        _check_beside(trees[key], remarks[key])
    loras = tuple(_loras(remarks["prompt"]))
    return Understood(
        trees["prompt"],
        trees["negative_prompt"],
        trees.get("style_prompt"),
        trees.get("negative_style_prompt"),
        loras,
        tuple(Problem(message, key, hint=hint) for key in given for message, hint in remarks[key].problems),
        tuple(f"{key}: {warning}" for key in given for warning in remarks[key].warnings),
        any(each.attached for each in remarks.values()),
    )


def with_prompts_loras(asked: Sequence[Lora], seen: Understood) -> tuple[Lora, ...]:
    """The LoRAs of an image: those of the job, then those of its prompt that the job does not name.

    So a job that lists what its prompt names, as every resolved one does, asks for it once.
    """
    named = {lora.name for lora in asked}
    return (*asked, *(lora for lora in seen.loras if lora.name not in named))


def _loras(remarks: Remarks) -> Iterator[Lora]:
    for each in remarks.attached:
        weights = [weight for weight in (each.weight, each.text_encoder_weight) if weight is not None]
        if not each.name:
            remarks.refuse("A LoRA without a name stands in the prompt.", "Write withLora(name, weight).")
        elif not all(abs(weight) <= HEAVIEST for weight in weights):
            message = f"The LoRA {show(each.name)} has a weight that is no number from −{HEAVIEST} to {HEAVIEST}."
            remarks.refuse(message, "Write <lora:name:0.8>, or withLora(name, 0.8) in InvokeAI's syntax.")
        else:
            yield Lora(name=each.name, weight=each.weight, text_encoder_weight=each.text_encoder_weight)


def _check_beside(tree: Conjunction, remarks: Remarks) -> None:
    """What only the prompt itself can say."""
    if tree.swapped:
        remarks.refuse("A .swap(…) can stand in the prompt only.", "Move it there.")
    if remarks.attached:
        named = ", ".join(show(lora.name) for lora in remarks.attached)
        remarks.warn(f"LoRAs have an effect in the prompt only; left out: {named}")


def as_invokeai(prompt: str, negative_prompt: str, syntax: str, old: bool) -> tuple[str, str]:
    """Two prompts as texts in InvokeAI's syntax: as jobs read it, or (`old` is false) as InvokeAI 3 and later do.

    They name no LoRAs, which an image has beside its prompts.
    """
    seen = understand(prompt, negative_prompt, syntax)
    if (
        syntax == "invokeai"
        and not seen.names_loras
        and (old or (legacy.escaped(prompt), legacy.escaped(negative_prompt)) == (prompt, negative_prompt))
    ):
        return prompt, negative_prompt
    return invokeai_text(seen.positive, old), invokeai_text(seen.negative, old)


def as_a1111(prompt: str, negative_prompt: str, syntax: str) -> tuple[str, str]:
    """Two prompts as texts in AUTOMATIC1111's syntax, as near as it comes. They name no LoRAs either."""
    seen = understand(prompt, negative_prompt, syntax)
    if syntax == "a1111" and not seen.names_loras:
        return prompt, negative_prompt
    return a1111_text(seen.positive), a1111_text(seen.negative)


def read(text: str, syntax: str, remarks: Remarks) -> Conjunction:
    """The tree of one text, which has no negative part any more."""
    if syntax == "plain":
        return plain(text)
    text, names = _hidden(text)
    tree = _read_in(text, syntax, remarks)
    return tree.written(lambda words: _shown_again(words, names)) if names else tree


def _read_in(text: str, syntax: str, remarks: Remarks) -> Conjunction:
    if syntax == "a1111":
        return a1111.parse(text, remarks)
    text = a1111.without_networks(text, remarks)
    if parts := legacy.weighted_parts(text):
        return legacy.blend_of(parts, remarks)
    return invokeai.parse(legacy.unescaped(text), remarks)


def _hidden(text: str) -> tuple[str, list[str]]:
    """A text whose `<names>` no syntax can take apart, and those names."""
    if "<" not in text or _HIDDEN_ONE.search(text):
        return text, []
    names: list[str] = []

    def hide(found: re.Match[str]) -> str:
        names.append(found[0])
        return chr(_HIDDEN[len(names) - 1])

    return TRIGGER.sub(hide, text, count=len(_HIDDEN)), names


def _shown_again(text: str, names: Sequence[str]) -> str:
    return _HIDDEN_ONE.sub(lambda one: names[ord(one[0]) - _HIDDEN.start], text)
