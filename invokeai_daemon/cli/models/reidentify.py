"""`models reidentify`: look at the files of models again, with what the program knows today."""

from __future__ import annotations

from pathlib import Path

import click

from invokeai_daemon.cli.models.again import Again
from invokeai_daemon.cli.models.report import ModelCommandError, each, report
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.daemon.intake.records import said, verdict_entry
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root
from invokeai_daemon.settings import load_settings
from invokeai_daemon.workers.ask import Importer

#: What a new look may find to be otherwise.
FACTS = ("type", "base", "format", "variant", "prediction_type", "dialect", "status", "path", "reason")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--all", "everything", is_flag=True, help="All models.")
@json_option
@with_root
def reidentify(root: Root, names: tuple[str, ...], everything: bool, as_json: bool) -> int:
    """Say anew what the models NAME are. Descriptions, settings and what you corrected by hand stay.

    A model that is now known to be something else is converted as that.
    """
    if everything == bool(names):
        raise click.UsageError("Name models, or give --all.")
    settings = load_settings(root.settings_file).import_
    registry = Registry(root)
    wanted = [entry.name for entry in registry.models()] if everything else names
    with Importer(root.path, memory_mb=settings.memory_mb, cpu_seconds=settings.cpu_seconds) as importer:
        again = Again(root, registry, importer, settings)
        return report(each(wanted, lambda name: _looked_at(again, registry.find(name))), as_json)


def _looked_at(again: Again, entry: Entry) -> str:
    event = again.asked(entry, {})
    if event["event"] == "imported":
        found = Entry.from_json(event["entry"])
    else:
        found = verdict_entry(Path(event["path"]), event["state"], said(event), event["identity"])
    if event.get("temporary") or (entry.status == "ok" and found.status in ("unknown", "rejected")):
        raise ModelCommandError(f"{entry.name} stays what it was: {found.reason}")
    now = again.register(entry, found)
    changed = [f"{key} is {getattr(now, key)}" for key in FACTS if getattr(entry, key) != getattr(now, key)]
    return f"{now.name}: {', '.join(changed) or 'the same as before'}."
