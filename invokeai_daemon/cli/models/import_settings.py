"""`models import-settings`: what InvokeAI's settings JSON, or the JSON beside a LoRA, says about models."""

from __future__ import annotations

from pathlib import Path

import click

from invokeai_daemon.cli.models.report import ModelCommandError, Outcome, each, report
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.models.cover import kept
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.models.units import WEIGHTS
from invokeai_daemon.models.words import Said, read_settings
from invokeai_daemon.root import Root


@click.command("import-settings")
@click.argument(
    "paths", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--model", metavar="NAME", help="The model that they are about; without it the name in the file, or its stem."
)
@json_option
@with_root
def import_settings(root: Root, paths: tuple[Path, ...], model: str | None, as_json: bool) -> int:
    """Take over what settings files say: texts, default_settings, trigger_phrases, cpu_only, the cover image."""
    registry = Registry(root)
    outcomes: list[Outcome] = []
    for path in paths:
        outcomes += each([str(path)], lambda name, path=path: _taken_over(root, registry, path, model))  # type: ignore[misc]
    return report(outcomes, as_json)


def _taken_over(root: Root, registry: Registry, path: Path, model: str | None) -> str:
    """All or nothing of a file."""
    settings = [(said, _entry(registry, path, said, model)) for said in read_settings(path)]
    changes = {}
    for said, entry in settings:
        changes[entry.name] = dict(said.fields)
        if said.cover:
            changes[entry.name]["cover_image"] = str(kept(said.cover, root, entry.name))
    registry.update_many({name: fields for name, fields in changes.items() if fields})
    ignored = sorted({key for said, _ in settings for key in said.ignored})
    left_out = f" Left out, since it is no setting: {', '.join(ignored)}." if ignored else ""
    said_what = sorted({key for fields in changes.values() for key in fields}) or ["nothing"]
    return f"{path}: {', '.join(said_what)} of {', '.join(changes)}.{left_out}"


def _entry(registry: Registry, path: Path, said: Said, model: str | None) -> Entry:
    """The model that a file is about: as named, the model file beside it, as it names itself, as the file is called."""
    if model:
        return registry.find(model)
    for suffix in WEIGHTS:
        entry = registry.by_source(path.with_suffix(suffix))
        if entry:
            return entry
    for name in (said.name, path.stem):
        entry = registry.get(name) if name else None
        if entry:
            return entry
    raise ModelCommandError(
        f"{path}: no model is called {said.name or path.stem}. Name the one that it is about with --model NAME."
    )
