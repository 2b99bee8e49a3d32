"""Begun: what became of the models and pictures of a job since it was begun. Asked by the planner before it goes on.

A job goes on only with what it was begun with: its pictures would not belong together otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from invokeai_daemon.errors import ModelMissing, Problem
from invokeai_daemon.job.plan import Input, ModelRef, Plan
from invokeai_daemon.models.references import is_the_same, reference_to
from invokeai_daemon.models.registry import Registry
from invokeai_daemon.output.inputs import hash_of

_AGAIN = "Drop the job again to make all images anew."


def as_it_is(registry: Registry, before: ModelRef) -> ModelRef:
    """A model of a begun plan as it is now. Raises ModelMissing."""
    entry = registry.get(before.name)
    if entry is None or entry.type != before.type or entry.status != "ok":
        why = f": {entry.why or entry.status}" if entry is not None else ""
        raise ModelMissing(f"The {before.type} {before.name}, with which the job was begun, is not there{why}.")
    return reference_to(entry, before.asked)


def has_same_models(begun: Plan, now: Plan) -> bool:
    """Whether all models of a begun plan are what they were, and no others."""
    before, after = (begun.model, *begun.references), (now.model, *now.references)
    return len(before) == len(after) and all(map(is_the_same, before, after))


def changes(begun: Plan, now: Plan, folder: Path) -> Iterator[Problem]:
    """What of a begun plan is another now, with the results in a folder."""
    for before, after in zip((begun.model, *begun.references), (now.model, *now.references), strict=True):
        if not is_the_same(before, after):
            yield Problem(f"The model {after.name} is another one since the job was begun.", "model", hint=_AGAIN)
    for copy in begun.inputs:
        if what := damage(copy, folder):
            yield Problem(f"The copy of {copy.asked}, {copy.file}, is {what} since the job was begun.", hint=_AGAIN)


def damage(copy: Input, folder: Path) -> str:
    """What became of a copied picture; empty when it is as it was."""
    try:
        return "" if hash_of(folder / copy.file) == copy.hash else "another picture"
    except OSError:
        return "gone"
