"""`models import`: files and folders on their way into autoimport/, where the daemon takes them up."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

from invokeai_daemon import files
from invokeai_daemon.cli.models.identify import Judge, judging
from invokeai_daemon.cli.models.report import ModelCommandError, each, report
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.cli.roots import shown
from invokeai_daemon.models.companions import companions_of
from invokeai_daemon.models.install.local import models_below
from invokeai_daemon.root import Root


@click.command("import")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True, path_type=Path))
@click.option("--link", is_flag=True, help="Link to it instead of copying; it must stay where it is then.")
@json_option
@with_root
def import_(root: Root, paths: tuple[Path, ...], link: bool, as_json: bool) -> int:
    """Bring the models PATH into autoimport/, where the daemon takes them up; of a folder all that are in it."""
    models = [str(model) for path in paths for model in models_below(path.absolute())]
    if not models:
        raise ModelCommandError(f"{paths[0]}: there is no model in this folder.")
    with judging() as judged:
        return report(each(models, lambda model: _brought(root, Path(model), judged, link)), as_json)


def _brought(root: Root, path: Path, judged: Judge, link: bool) -> str:
    if path.is_relative_to(root.autoimport):
        return f"{shown(path, root)} is where the daemon looks: it takes it up by itself."
    verdict = judged(path)
    if verdict.state not in ("ok", "unusable"):
        raise ModelCommandError(verdict.reason)
    folder = root.autoimport / verdict.identity.type
    for source in [*_companions(path), path]:
        bring(source, folder, link)
    done = f"{'Linked' if link else 'Copied'} to {shown(folder / path.name, root)}, a {verdict.identity.base} model."
    return f"{done} It cannot be used yet: {verdict.reason}" if verdict.state == "unusable" else done


def _companions(path: Path) -> list[Path]:
    """The files that belong to a model, which must be there before it is."""
    return [companion for companion in companions_of(path) if companion != path]


def bring(source: Path, folder: Path, link: bool) -> Path:
    """Make a file or folder appear in a folder, complete, and only if nothing of its name is there."""
    target = folder / source.name
    if os.path.lexists(target):
        raise ModelCommandError(f"{target} is already there. Give {source.name} another name, or remove the other one.")
    folder.mkdir(parents=True, exist_ok=True)
    temporary = files.temporary_beside(target)
    try:
        _copy(source, temporary, link)
        temporary.rename(target)
    except BaseException:
        _remove(temporary)
        raise
    return target


def _copy(source: Path, target: Path, link: bool) -> None:
    if link:
        target.symlink_to(source)
    elif source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
