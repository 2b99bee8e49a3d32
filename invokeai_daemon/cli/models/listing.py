"""`models list`: the registered models, and what could not be registered."""

from __future__ import annotations

import click

from invokeai_daemon.cli.models.report import print_json, table, terminal_width
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.models.entries.entry import STATUSES
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root


@click.command("list")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only main, lora, vae, …")
@click.option("--base", "bases", multiple=True, metavar="BASE", help="Only sd-1, sdxl, flux, …")
@click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES), help="Only those with this status.")
@json_option
@with_root
def list_(root: Root, types: tuple[str, ...], bases: tuple[str, ...], statuses: tuple[str, ...], as_json: bool) -> None:
    """List the registered models by name, and what could not be registered."""
    registry = Registry(root)
    everything = registry.models()
    entries = [
        entry
        for entry in sorted(everything, key=lambda entry: entry.name.casefold())
        if entry.type in (types or (entry.type,))
        and entry.base in (bases or (entry.base,))
        and entry.status in (statuses or (entry.status,))
    ]
    if as_json:
        print_json([entry.as_json() for entry in entries])
        return
    for line in table([("NAME", "TYPE", "BASE", "STATUS", ""), *map(_row, entries)], terminal_width()):
        click.echo(line)
    if not everything:
        click.echo("No models. Drop one into autoimport/, or: invokeai-daemon models import FILE")
    elif not entries:
        click.echo(f"None of the {len(everything)} models is like this.")
    for problem in registry.problems:
        click.echo(f"{root.registry_file}: {problem}", err=True)


def _row(entry: Entry) -> tuple[str, ...]:
    kind = entry.base if entry.variant in (None, "normal") else f"{entry.base} {entry.variant}"
    status = f"{entry.status}, default" if entry.default else entry.status
    return entry.name, entry.type, kind, status, entry.why or entry.description
