"""`models convert`: convert models otherwise than they were, or ones that InvokeAI 2.3 registered as single files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from invokeai_daemon.cli.models.again import Again
from invokeai_daemon.cli.models.report import ModelCommandError, each, report
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.cli.roots import shown
from invokeai_daemon.models.entries.contents import is_in_place
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root
from invokeai_daemon.settings import load_settings
from invokeai_daemon.workers.ask import Importer


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
    """Convert the models NAME again. What no option says goes as it went before, else as the [import] settings say."""
    settings = load_settings(root.settings_file).import_
    asked = {"use_ema": ema, "dtype": dtype, "vae": str(vae.absolute()) if vae else None}
    wishes = {key: value for key, value in asked.items() if value is not None}
    registry = Registry(root)
    with Importer(root.path, memory_mb=settings.memory_mb, cpu_seconds=settings.cpu_seconds) as importer:
        again = Again(root, registry, importer, settings)
        return report(each(names, lambda name: _converted(again, registry.find(name), wishes)), as_json)


def _converted(again: Again, entry: Entry, wishes: Mapping[str, Any]) -> str:
    if Path(entry.source or entry.path or "/").is_dir():
        raise ModelCommandError(f"{entry.name} is a folder that is used as it is: there is nothing to convert.")
    event = again.asked(entry, wishes)
    if event["event"] != "imported":
        raise ModelCommandError(f"{entry.name} is left as it is: {event['reason']}")
    made = Entry.from_json(event["entry"])
    if is_in_place(made):
        raise ModelCommandError(f"{entry.name} is used as it is: there is nothing to convert a {made.type} to.")
    now = again.register(entry, made)
    path = shown(Path(now.path), again.root)
    if now.path == entry.path:
        return f"{now.name} is like this already: {path}."
    before = "" if is_in_place(entry) else f" The copy before it stays: {shown(Path(entry.path), again.root)}."
    return f"Converted {now.name} to {path}.{before}"
