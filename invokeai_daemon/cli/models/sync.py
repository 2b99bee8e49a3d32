"""`models sync`: where the registry and the disk differ. Nothing is removed or deleted unless that is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from invokeai_daemon.cli.models.report import print_json
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.cli.roots import shown
from invokeai_daemon.cli.screen import gigabytes
from invokeai_daemon.models.orphans import Orphan, delete, is_young, orphans
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root


@click.command()
@click.option("--remove-missing", is_flag=True, help="Take entries whose files are gone out of models.yaml.")
@click.option("--delete-orphans", is_flag=True, help="Delete the daemon's own copies that no entry names.")
@json_option
@with_root
def sync(root: Root, remove_missing: bool, delete_orphans: bool, as_json: bool) -> None:
    """Compare models.yaml with the disk: missing models, dead paths, folders in models/ that nothing names.

    A disk that is not mounted makes models missing, too: look before --remove-missing.
    """
    registry = Registry(root)
    entries = registry.models()
    found = _Found(
        missing=[entry for entry in entries if entry.status == "missing"],
        forgotten=registry.forgotten(),
        dead={entry.name: dead for entry in entries if (dead := _dead_paths(entry))},
        orphans=list(orphans(root, entries)),
    )
    removed = _remove(registry, found) if remove_missing else []
    deleted = _delete(root, found.orphans) if delete_orphans else []
    if as_json:
        print_json(found.as_json() | {"removed": removed, "deleted": [str(orphan.path) for orphan in deleted]})
        return
    for line in _lines(root, found, removed, deleted):
        click.echo(line)


@dataclass(frozen=True)
class _Found:
    """Where the registry and the disk differ."""

    missing: list[Entry]
    #: Verdicts on files that were deleted since.
    forgotten: list[str]
    #: Name → aliases that are gone, or a source that is gone while its converted copy is used.
    dead: dict[str, list[str]]
    orphans: list[Orphan]

    def as_json(self) -> dict[str, object]:
        return {
            "missing": [{"name": entry.name, "path": entry.path, "reason": entry.reason} for entry in self.missing],
            "forgotten": self.forgotten,
            "dead_paths": self.dead,
            "orphans": [
                {"path": str(orphan.path), "bytes": orphan.nbytes, "source": orphan.source, "stays": orphan.stays}
                for orphan in self.orphans
            ],
        }


def _dead_paths(entry: Entry) -> list[str]:
    if entry.status == "missing":
        return []
    own = [entry.source] if entry.source and entry.source != entry.path else []
    return [path for path in (*own, *entry.aliases) if not os.path.lexists(path)]


def _remove(registry: Registry, found: _Found) -> list[str]:
    """Take out what is missing; those whose stanza names nothing on this disk were not asked about."""
    names = list(dict.fromkeys([*(entry.name for entry in found.missing), *found.forgotten]))
    registry.remove_many(names)
    lost = {name: tuple(dead) for name, dead in found.dead.items() if name not in names}
    aliases = {name: registry.find(name).aliases for name in lost}
    changes = {
        name: {"aliases": tuple(alias for alias in aliases[name] if alias not in dead)}
        for name, dead in lost.items()
        if set(dead) & set(aliases[name])
    }
    if changes:
        registry.update_many(changes)
    return names


def _delete(root: Root, found: list[Orphan]) -> list[Orphan]:
    return [orphan for orphan in found if not _why(orphan) and delete(root, orphan.path)]


def _why(orphan: Orphan) -> str:
    """Why --delete-orphans leaves a folder."""
    return orphan.stays or ("it was made just now: its entry may be on its way" if is_young(orphan.path) else "")


def _lines(root: Root, found: _Found, removed: list[str], deleted: list[Orphan]) -> Iterator[str]:
    for entry in found.missing:
        away = (
            "" if not entry.path or Path(entry.path).parent.is_dir() else ", nor is its folder: is a disk not mounted?"
        )
        yield f"{'removed' if entry.name in removed else 'missing'}  {entry.name}: {entry.reason}{away}"
    for name in found.forgotten:
        yield f"{'removed' if name in removed else 'deleted file'}  {name}: its file is gone"
    for name, paths in found.dead.items():
        for path in paths:
            yield f"gone  {path}, where {name} came from"
    for orphan in found.orphans:
        what = "deleted" if orphan in deleted else "orphan"
        stays = "" if orphan in deleted else _why(orphan)
        why = f" ({stays})" if stays else ""
        came = f", converted from {orphan.source}" if orphan.source else ""
        yield f"{what}  {shown(orphan.path, root)}: {gigabytes(orphan.nbytes)}{came}{why}"
    left = [orphan for orphan in found.orphans if orphan not in deleted and not _why(orphan)]
    if not (found.missing or found.forgotten or found.dead or found.orphans):
        yield "models.yaml and the disk agree."
    if (found.missing or found.forgotten) and not removed:
        yield "To take missing models out of models.yaml: invokeai-daemon models sync --remove-missing"
    if left and not deleted:
        size = gigabytes(sum(orphan.nbytes for orphan in left))
        yield f"To free {size}: invokeai-daemon models sync --delete-orphans"
