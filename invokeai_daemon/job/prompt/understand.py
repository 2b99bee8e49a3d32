"""How the prompts of an image are understood: their trees, what is wrong with them, what may surprise.

Called by the planner, which refuses what cannot be rendered; by the engine, which encodes the trees; and by `check`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from invokeai_daemon.errors import Problem
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.prompt import a1111, invokeai, legacy
from invokeai_daemon.job.prompt.printing import a1111_text, invokeai_text
from invokeai_daemon.job.prompt.tree import Conjunction, Remarks, plain
from invokeai_daemon.strict_toml import show

Syntax = Literal["invokeai", "a1111", "plain"]
SYNTAXES: tuple[str, ...] = get_args(Syntax)


@dataclass(frozen=True)
class Understood:
    """The two prompts of an image."""

    positive: Conjunction
    negative: Conjunction
    #: What keeps them from being rendered; their keys are a job's.
    problems: tuple[Problem, ...] = ()
    #: What was read otherwise than its writer may think.
    warnings: tuple[str, ...] = ()


def understood(image: Image) -> Understood:
    """The prompts of an image of a plan."""
    return understand(image.prompt, image.negative_prompt, image.prompt_syntax)


@lru_cache(maxsize=256)
def understand(prompt: str, negative_prompt: str, syntax: str) -> Understood:
    """Two prompts in one of the SYNTAXES. Never fails."""
    if syntax == "invokeai":
        prompt, bracketed = legacy.split_negative(prompt)
        negative_prompt = ", ".join(text for text in (negative_prompt, bracketed) if text)
    problems: list[Problem] = []
    warnings: list[str] = []
    trees: list[Conjunction] = []
    for key, text in (("prompt", prompt), ("negative_prompt", negative_prompt)):
        remarks = Remarks()
        tree = read(text, syntax, remarks)
        problems.extend(Problem(message, key, hint=hint) for message, hint in remarks.problems)
        warnings.extend(f"{key}: {warning}" for warning in remarks.warnings)
        if syntax != "plain":
            warnings.extend(f"{key}: {_no_embedding(name)}" for name in tree.triggers)
        trees.append(tree)
    return Understood(trees[0], trees[1], tuple(problems), tuple(warnings))


def as_invokeai(prompt: str, negative_prompt: str, syntax: str, old: bool) -> tuple[str, str]:
    """Two prompts as texts in InvokeAI's syntax: as jobs read it, or (`old` is false) as InvokeAI 3 and later do."""
    if syntax == "invokeai" and (
        old or (legacy.escaped(prompt), legacy.escaped(negative_prompt)) == (prompt, negative_prompt)
    ):
        return prompt, negative_prompt
    seen = understand(prompt, negative_prompt, syntax)
    return invokeai_text(seen.positive, old), invokeai_text(seen.negative, old)


def as_a1111(prompt: str, negative_prompt: str, syntax: str) -> tuple[str, str]:
    """Two prompts as texts in AUTOMATIC1111's syntax, as near as it comes."""
    if syntax == "a1111":
        return prompt, negative_prompt
    seen = understand(prompt, negative_prompt, syntax)
    return a1111_text(seen.positive), a1111_text(seen.negative)


def read(text: str, syntax: str, remarks: Remarks) -> Conjunction:
    """The tree of one text, which has no negative part any more."""
    if syntax == "plain":
        return plain(text)
    if syntax == "a1111":
        return a1111.parse(text, remarks)
    for kind, name in a1111.networks(text):
        a1111.refuse_network(kind, name, remarks)
    if parts := legacy.weighted_parts(text):
        return legacy.blend_of(parts, remarks)
    return invokeai.parse(legacy.unescaped(text), remarks)


def _no_embedding(name: str) -> str:
    return f"{show(f'<{name}>')} names no embedding that can be used; it was read as words"
