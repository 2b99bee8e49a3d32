"""`models`: the registry, what a file is, and files on their way into autoimport/."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from invokeai_daemon import files
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.cli.roots import shown
from invokeai_daemon.errors import ModelError
from invokeai_daemon.models.convert.store import MARKER
from invokeai_daemon.models.identity import Verdict
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root

#: What may stand beside a model, with its stem.
COMPANION_SUFFIXES = (".toml", ".yaml", ".vae.pt", ".vae.safetensors", ".png")


class ModelCommandError(ModelError):
    """The command does not fit the model."""


@click.group()
def models() -> None:
    """The models that jobs can name: list, show, identify, import, remove."""


@models.command("list")
@json_option
@with_root
def list_(root: Root, as_json: bool) -> None:
    """List the registered models, and what could not be registered."""
    registry = Registry(root)
    entries = registry.models()
    if as_json:
        click.echo(json.dumps([entry.as_json() for entry in entries], indent=2, ensure_ascii=False))
        return
    for line in table([("NAME", "TYPE", "BASE", "STATUS", ""), *(_row(entry) for entry in entries)]):
        click.echo(line)
    if not entries:
        click.echo("No models. Drop one into autoimport/, or: invokeai-daemon models import FILE")
    for problem in registry.problems:
        click.echo(f"{root.registry_file}: {problem}", err=True)


def _row(entry: Entry) -> tuple[str, ...]:
    kind = entry.base if entry.variant in (None, "normal") else f"{entry.base} {entry.variant}"
    return entry.name, entry.type, kind, entry.status, entry.reason or entry.description or ""


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as lines, each column as wide as its widest cell; the last column runs on."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


@models.command()
@click.argument("name")
@json_option
@with_root
def show(root: Root, name: str, as_json: bool) -> None:
    """Show all that is known of a model. NAME may be a unique start of a name, or a hash."""
    facts = Registry(root).find(name).as_json()
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for line in table([(key, _value(value)) for key, value in facts.items() if value not in (None, "", [], {})]):
        click.echo(line)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@models.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@json_option
def identify(path: Path, as_json: bool) -> int:
    """Say what the model file or folder PATH is, without registering it. Exits 1 when it is not known."""
    verdict = judged(path)
    if as_json:
        click.echo(json.dumps(verdict_json(verdict), indent=2, ensure_ascii=False))
    else:
        _print_verdict(verdict)
    return 0 if verdict.state == "ok" else 1


def judged(path: Path) -> Verdict:
    """What a file is: from its header and its sidecar; no tensor is read."""
    from invokeai_daemon.models.identify import judge
    from invokeai_daemon.models.sidecar import read_sidecar

    return judge(path, read_sidecar(path))


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    facts = verdict.identity.as_json()
    if verdict.state == "ok":
        return facts
    return {
        **facts,
        "reason": verdict.reason,
        "nearest": [{"family": name, "why": why} for name, why in verdict.nearest],
    }


def _print_verdict(verdict: Verdict) -> None:
    identity = verdict.identity
    if verdict.state != "ok":
        click.echo(verdict.reason)
        return
    facts = {"type": identity.type, "base": identity.base, "format": identity.format, "variant": identity.variant}
    facts["prediction"] = identity.prediction_type
    rows = [(key, value) for key, value in facts.items() if value]
    rows += [("because" if number == 0 else "", fact) for number, fact in enumerate(identity.evidence)]
    rows += [("assumed", what) for what in identity.assumed]
    for line in table(rows):
        click.echo(line)


@models.command("import")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--link", is_flag=True, help="Link to it instead of copying; it must stay where it is then.")
@with_root
def import_(root: Root, path: Path, link: bool) -> None:
    """Bring the model PATH into autoimport/, where the daemon takes it up."""
    path = path.absolute()
    if path.is_relative_to(root.autoimport):
        click.echo(f"{shown(path, root)} is where the daemon looks: it takes it up by itself.")
        return
    verdict = judged(path)
    if verdict.state != "ok":
        raise ModelCommandError(verdict.reason)
    folder = root.autoimport / verdict.identity.type
    for source in [*companions(path), path]:
        bring(source, folder, link)
    click.echo(
        f"{'Linked' if link else 'Copied'} to {shown(folder / path.name, root)}, a {verdict.identity.base} model."
    )


def companions(path: Path) -> list[Path]:
    """The files that belong to a model, which must be there before it is."""
    if path.is_dir():
        return []
    beside = [path.with_name(path.stem + suffix) for suffix in COMPANION_SUFFIXES]
    return [companion for companion in beside if companion.is_file() and companion != path]


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


@models.command()
@click.argument("name")
@with_root
def remove(root: Root, name: str) -> None:
    """Remove the model NAME and the daemon's converted copy of it. The file it came from is never touched."""
    registry = Registry(root)
    entry = registry.find(name)
    registry.remove(entry.name)
    copy = derived_copy(root, entry)
    if any(other.path == entry.path for other in registry.models()):
        copy = None
    if copy is not None:
        shutil.rmtree(copy)
    click.echo(f"Removed {entry.name}{f' and its copy {shown(copy, root)}' if copy else ''}.")
    if entry.source and os.path.lexists(entry.source):
        click.echo(f"{shown(Path(entry.source), root)} stays as it is. To have it imported again: touch it.")


def derived_copy(root: Root, entry: Entry) -> Path | None:
    """The folder that the daemon made for a model; None for what it did not make, what lies elsewhere, and links."""
    folder = Path(entry.path or "/")
    ours = folder.resolve().is_relative_to(root.models.resolve()) and not folder.is_symlink()
    return folder if ours and (folder / MARKER).is_file() else None
