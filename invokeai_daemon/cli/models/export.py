"""`models export`: what is said about models, in InvokeAI's settings JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from invokeai_daemon import files
from invokeai_daemon.cli.models.report import print_json
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.errors import ModelError
from invokeai_daemon.models.cover import data_url
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.models.words import settings_of
from invokeai_daemon.root import Root


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file instead of the screen.")
@json_option
@with_root
def export(root: Root, names: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Print the settings of the models NAME, or of all, as InvokeAI exports them; always JSON.

    One model is an object, as InvokeAI reads it; several are a list of them, which import-settings reads.
    """
    registry = Registry(root)
    entries = [registry.find(name) for name in names] if names else registry.models()
    settings: Any = [settings_of(entry, _cover(entry)) for entry in entries]
    if len(names) == 1:
        settings = settings[0]
    if output is None:
        print_json(settings)
        return
    files.write_atomically(output, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    click.echo(f"Wrote the settings of {len(entries)} model{'s' * (len(entries) != 1)} to {output}.")


def _cover(entry: Entry) -> str:
    """Its picture; one that cannot be read is told and left out."""
    if not entry.cover_image:
        return ""
    try:
        return data_url(Path(entry.cover_image))
    except (ModelError, OSError) as error:
        click.echo(f"{entry.name}: no cover image: {error}", err=True)
        return ""
