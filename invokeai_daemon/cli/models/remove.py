"""`models remove`: entries and what the daemon derived of them. What a user dropped goes only when asked for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

from invokeai_daemon.cli.models.report import ModelCommandError, each, report
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.cli.roots import shown
from invokeai_daemon.models.companions import companions_of
from invokeai_daemon.models.cover import covers
from invokeai_daemon.models.entries.contents import sources_of
from invokeai_daemon.models.orphans import delete, derived_copy
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--originals", is_flag=True, help="Delete the files that they came from, too; needs --yes.")
@click.option("--yes", is_flag=True, help="Really delete the originals, which are shown without it.")
@json_option
@with_root
def remove(root: Root, names: tuple[str, ...], originals: bool, yes: bool, as_json: bool) -> int:
    """Remove the models NAME and the daemon's converted copies of them. The files they came from stay."""
    registry = Registry(root)
    if originals and not yes:
        for name in names:
            for source in _originals(registry.find(name)):
                click.echo(f"would delete {shown(source, root)}", err=True)
        raise ModelCommandError("Nothing was removed. To delete these files as well, give --originals --yes.")
    return report(each(names, lambda name: _removed(root, registry, registry.find(name), originals)), as_json)


def _originals(entry: Entry) -> list[Path]:
    """The files or folders that the user gave, as far as they are there."""
    return [Path(source) for source in sources_of(entry) if os.path.lexists(source)]


def _removed(root: Root, registry: Registry, entry: Entry, with_originals: bool) -> str:
    copy = derived_copy(root, entry)
    if any(other.path == entry.path for other in registry.models() if other.name != entry.name):
        copy = None
    sources = [source for source in _originals(entry) if source != copy]
    registry.remove(entry.name)
    parts = [f"Removed {entry.name}"]
    if copy is not None and delete(root, copy):
        parts.append(f" and its copy {shown(copy, root)}")
    cover = Path(entry.cover_image or "/")
    if cover.parent == covers(root):
        cover.unlink(missing_ok=True)
    text = "".join(parts) + "."
    for source in sources:
        if with_originals and _delete_original(source):
            text += f" Deleted {shown(source, root)}{_companions_stay(source)}."
        else:
            behind = " (it lies behind a link)" if with_originals else ""
            text += f" {shown(source, root)} stays as it is{behind}."
    if sources and not with_originals:
        text += " To have it imported again: touch it."
    return text


def _delete_original(source: Path) -> bool:
    """Delete a user's file or folder, or the link itself where it is one; nothing that lies behind a linked folder."""
    if source.parent.resolve() != source.parent:
        return False
    if source.is_dir() and not source.is_symlink():
        shutil.rmtree(source)
    else:
        source.unlink(missing_ok=True)
    return True


def _companions_stay(source: Path) -> str:
    beside = [companion.name for companion in companions_of(source)]
    return f", but not {', '.join(beside)} beside it" if beside else ""
