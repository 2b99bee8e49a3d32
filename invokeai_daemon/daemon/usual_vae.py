"""The usual VAE: the one that a model's default settings, its stanza or the settings give it instead of its own.

Called by the planner for jobs that name none. One that is not here keeps no job from being rendered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invokeai_daemon.daemon.findings import Findings
from invokeai_daemon.errors import ModelMissing
from invokeai_daemon.job.schema import Job
from invokeai_daemon.models.entries.entry import Entry
from invokeai_daemon.models.references import UnfitReference, reference
from invokeai_daemon.models.registry import Registry


def with_usual_vae(found: Findings, registry: Registry, entry: Entry, defaults: Mapping[str, Any]) -> Job:
    """The job with the VAE that its model usually has; one that cannot be used is a warning."""
    usual = _named(registry, entry) or defaults.get("vae")
    if found.job.vae is not None or not usual:
        return found.job
    try:
        name = reference(registry, "vae", str(usual), entry.base).name
    except (ModelMissing, UnfitReference) as error:
        found.warnings.append(f"{entry.name} was rendered with its own VAE: {error}")
        return found.job
    return found.job.model_copy(update={"vae": name})


def _named(registry: Registry, entry: Entry) -> str:
    """What a model says itself: a name, or the file that a stanza of InvokeAI 2.3 gives."""
    if said := entry.default_settings.get("vae"):
        return str(said)
    source = registry.by_source(entry.vae) if entry.vae else None
    return source.name if source is not None else entry.vae
