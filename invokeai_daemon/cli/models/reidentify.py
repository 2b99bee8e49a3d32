"""`models reidentify`: look at the files of models again, with what the program knows today."""

from __future__ import annotations

import os
from pathlib import Path

import click

from invokeai_daemon.cli.models.identify import Judge, judging
from invokeai_daemon.cli.models.report import ModelCommandError, each, report
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.models.entries.contents import is_in_place, sources_of
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--all", "everything", is_flag=True, help="All models.")
@json_option
@with_root
def reidentify(root: Root, names: tuple[str, ...], everything: bool, as_json: bool) -> int:
    """Say anew what the models NAME are. Descriptions, settings and what you corrected by hand stay."""
    registry = Registry(root)
    if everything == bool(names):
        raise click.UsageError("Name models, or give --all.")
    wanted = [entry.name for entry in registry.models()] if everything else names
    with judging() as judged:
        return report(each(wanted, lambda name: _looked_at(registry, registry.find(name), judged)), as_json)


def _looked_at(registry: Registry, entry: Entry, judged: Judge) -> str:
    path = next((source for source in sources_of(entry) if os.path.lexists(source)), "")
    if not path:
        raise ModelCommandError(f"{entry.name}: {entry.source or entry.path or 'its file'} is not there.")
    verdict = judged(Path(path))
    identity = verdict.identity
    if verdict.state not in ("ok", "unusable") and entry.status == "ok":
        raise ModelCommandError(f"{entry.name} stays what it was: {verdict.reason}")
    found = {key: getattr(identity, key) for key in ("type", "base", "variant", "prediction_type", "dialect")}
    if is_in_place(entry):
        found["format"] = identity.format
    changed = registry.reidentified(
        entry.name,
        {
            **found,
            "status": verdict.state,
            "reason": verdict.reason,
            "needs": tuple(need.why for need in identity.needs),
        },
    )
    what = [
        f"{key} {getattr(entry, key)} -> {getattr(changed, key)}"
        for key in found
        if getattr(entry, key) != getattr(changed, key)
    ]
    if what and not is_in_place(entry):
        what.append(
            f"its converted copy is as it was; to convert it again: invokeai-daemon models convert {entry.name}"
        )
    return f"{entry.name}: {'; '.join(what) or 'the same as before'}."
