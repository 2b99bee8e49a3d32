"""`models convert`: convert models again, otherwise than the settings say, or ones that InvokeAI 2.3 registered."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from invokeai_daemon.cli.models.report import ModelCommandError, each, report
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.cli.roots import shown
from invokeai_daemon.models.entries.contents import is_in_place, sources_of
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root
from invokeai_daemon.settings import load_settings
from invokeai_daemon.workers.ask import Importer
from invokeai_daemon.workers.protocol import Message


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--ema/--no-ema", default=None, help="Take the averaged weights of a checkpoint that has both, or not.")
@click.option("--dtype", type=click.Choice(["keep", "float32", "float16", "bfloat16"]), help="What the copy holds.")
@click.option("--vae", type=click.Path(exists=True, path_type=Path), help="A VAE that replaces the model's own.")
@json_option
@with_root
def convert(
    root: Root, names: tuple[str, ...], ema: bool | None, dtype: str | None, vae: Path | None, as_json: bool
) -> int:
    """Convert the models NAME again. Without an option it goes as the [import] settings say."""
    settings = load_settings(root.settings_file).import_
    wishes = {
        "use_ema": settings.use_ema if ema is None else ema,
        "dtype": dtype or settings.dtype,
        "vae": str(vae.absolute()) if vae else None,
    }
    registry = Registry(root)
    with Importer(root.path, memory_mb=settings.memory_mb, cpu_seconds=settings.cpu_seconds) as importer:
        return report(
            each(names, lambda name: _converted(root, registry, registry.find(name), importer, wishes)), as_json
        )


def _converted(root: Root, registry: Registry, entry: Entry, importer: Importer, wishes: Mapping[str, Any]) -> str:
    source = next((source for source in sources_of(entry) if os.path.lexists(source)), None)
    if source is None or (Path(source).is_dir() and is_in_place(entry)):
        gone = (
            f"{entry.source or entry.path} is not there" if source is None else "it is a folder that is used as it is"
        )
        raise ModelCommandError(f"{entry.name} cannot be converted: {gone}.")
    vae = wishes["vae"] or (entry.vae if Path(entry.vae).is_file() else None)
    order = {"order": "import", "path": source, "root": str(root.path), **wishes, "vae": vae}
    event = importer.ask(order, on_event=_show_progress)
    if event["event"] != "imported":
        raise ModelCommandError(f"{entry.name} is left as it is: {event['reason']}")
    made = Entry.from_json(event["entry"])
    if is_in_place(made):
        raise ModelCommandError(f"{entry.name} is used as it is: there is nothing to convert a {made.type} to.")
    name = registry.add(made)
    return _told(root, entry, registry.find(name))


def _told(root: Root, before: Entry, now: Entry) -> str:
    path = shown(Path(now.path), root)
    if now.path == before.path:
        return f"{now.name} is like this already: {path}."
    stays = (
        "" if is_in_place(before) else f" The copy before stays in {shown(Path(before.path), root)} until models sync."
    )
    return f"Converted {now.name} to {path}.{stays}"


def _show_progress(event: Message) -> None:
    if event.get("event") == "progress" and sys.stderr.isatty():
        click.echo(f"\r{100 * event['done'] // max(1, event['of'])} %\r", nl=False, err=True)
