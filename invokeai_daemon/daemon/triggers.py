"""Triggers: which embeddings the prompts of a job name, and which names in <brackets> are nobody's.

Called by the planner. A name that no embedding has may be meant as words, so it is no mistake; the result says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from invokeai_daemon.daemon.findings import Findings
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.job.prompt.triggers import Known, bare, triggers_in
from invokeai_daemon.models.entries.entry import Entry
from invokeai_daemon.models.references import reference_to
from invokeai_daemon.models.registry import Registry
from invokeai_daemon.strict_toml import nearest, show

#: The keys whose texts name embeddings.
PROMPTS = ("prompt", "negative_prompt", "style_prompt", "negative_style_prompt")


def find_embeddings(found: Findings, registry: Registry, model: Entry, asked: Mapping[str, Any]) -> None:
    """Look up what the prompts of a job, whose values are `asked`, name for its main model."""
    if asked["prompt_syntax"] == "plain":
        return
    base = model.base
    if found.job.negative_prompt is None and (usual := model.default_settings.get("negative_prompt")):
        asked = {**asked, "negative_prompt": usual}
    embeddings = [entry for entry in registry.models() if entry.type == "embedding"]
    usable = {entry.name: entry for entry in embeddings if entry.status == "ok" and entry.base == base}
    known = [Known(entry.name, entry.trigger_phrases) for entry in usable.values()]
    references: dict[str, ModelRef] = {}
    for key in PROMPTS:
        named = triggers_in([asked.get(key) or ""], known)
        references |= {trigger: reference_to(usable[name], trigger) for trigger, name in named.known.items()}
        found.warnings += [f"{key}: {show(name)} {_why(name, embeddings, base, usable)}" for name in named.unknown]
    found.others += references.values()


def _why(trigger: str, embeddings: Iterable[Entry], base: str, usable: Iterable[str]) -> str:
    """What is the matter with a name that means no embedding that can be used."""
    other = next((entry for entry in embeddings if entry.name.casefold() == bare(trigger).casefold()), None)
    if other is not None and other.status != "ok":
        return f"is an embedding that cannot be used ({other.why or other.status}); it was read as words"
    if other is not None:
        return f"is an embedding for {other.base} models, and this one is {base}; it was read as words"
    meant = nearest(bare(trigger), usable)
    question = f". Did you mean {show(f'<{meant}>')}?" if meant else ""
    return f"names no embedding; it was read as words{question}"
