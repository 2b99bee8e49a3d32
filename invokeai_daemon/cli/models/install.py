"""`models install`: models from this disk, from addresses, repositories and the starter list, into autoimport/."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from invokeai_daemon.cli.models.report import ModelCommandError, Outcome, print_json, report, table, terminal_width
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.cli.roots import shown
from invokeai_daemon.errors import DaemonError
from invokeai_daemon.root import Root

if TYPE_CHECKING:
    from invokeai_daemon.models.install.fetch import Fetcher, Tell
    from invokeai_daemon.models.install.sources import Remote
    from invokeai_daemon.models.install.starters import Starter

#: What --starter takes beside names.
SETS = ("recommended", "default", "all")


@dataclass(frozen=True)
class Installed(Outcome):
    """What became of one source."""

    #: The files and folders that are there now.
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wishes:
    """What the options say of every source."""

    root: Root
    folder: Path | None
    name: str
    checksum: str
    link: bool
    allow_private: bool


@click.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("--starter", "starters", multiple=True, metavar="NAME", help=f"A starter model, or {', '.join(SETS)}.")
@click.option("--to", metavar="FOLDER", help="The folder of autoimport/ that it goes to (default: by its type).")
@click.option("--name", default="", metavar="NAME", help="What to call it (default: as its author does).")
@click.option("--hash", "checksum", default="", metavar="DIGEST", help="What it must be: sha256:… or blake3:….")
@click.option("--sha256", default="", metavar="HEX", help="The same for a sha256.")
@click.option("--link", is_flag=True, help="Link to files of this machine instead of copying them.")
@click.option("--allow-private", is_flag=True, help="Fetch from this machine and the local network too.")
@json_option
@with_root
def install(
    root: Root,
    sources: tuple[str, ...],
    starters: tuple[str, ...],
    to: str | None,
    name: str,
    checksum: str,
    sha256: str,
    link: bool,
    allow_private: bool,
    as_json: bool,
) -> int:
    """Bring models into autoimport/, where the daemon takes them up.

    \b
    SOURCE is
      a file, or a folder: every model in it
      an address: https://…
      a repository of the Hugging Face hub: owner/repo, owner/repo:path, owner/repo@revision:path
      a starter model; without a SOURCE they are listed
    A download that broke off goes on where it stopped when it is asked for again.
    """
    digest = checksum or (f"sha256:{sha256}" if sha256 else "")
    wishes = Wishes(root, _folder(root, to), name, digest, link, allow_private)
    wanted = [*sources, *_named(root, starters)]
    if not wanted:
        return _list(root, as_json)
    if len(wanted) > 1 and (name or wishes.checksum):
        raise ModelCommandError("--name and --hash are for one model: give one SOURCE with them.")
    return report(_outcomes(wanted, wishes), as_json)


def _folder(root: Root, to: str | None) -> Path | None:
    if to is None:
        return None
    folder = Path(os.path.normpath(root.autoimport / to.removeprefix("autoimport/")))
    if not folder.is_relative_to(root.autoimport):
        raise ModelCommandError(f"--to {to} is not below autoimport/.")
    return folder


# -- fetching ----------------------------------------------------------------------------------------------------------


def _outcomes(texts: Iterable[str], wishes: Wishes) -> Iterator[Outcome]:
    """What became of each source, as it happens; one that fails stops no other."""
    from invokeai_daemon.models.install.fetch import Fetcher
    from invokeai_daemon.models.install.local import models_below
    from invokeai_daemon.models.install.sources import LocalPath
    from invokeai_daemon.settings import load_settings

    settings = load_settings(wishes.root.settings_file)
    with _progress() as tell:
        fetcher = Fetcher(wishes.root, settings, os.environ, tell, allow_private=wishes.allow_private)
        for text in texts:
            try:
                source = fetcher.parse(text, local=True)
            except DaemonError as error:
                yield Installed(text, False, str(error))
                continue
            if not isinstance(source, LocalPath):
                yield _one(text, partial(_fetched, source, fetcher, wishes))
                continue
            models = list(models_below(source.path.absolute()))
            if not models:
                yield Installed(text, False, f"{text}: there is no model in this folder.")
            for model in models:
                yield _one(str(model), partial(_copied, model, wishes))


def _one(name: str, act: Callable[[], tuple[tuple[str, ...], str]]) -> Outcome:
    try:
        paths, message = act()
    except DaemonError as error:
        return Installed(name, False, str(error))
    except OSError as error:
        return Installed(name, False, f"{error.filename or name}: {error.strerror or error}.")
    return Installed(name, True, message, paths)


def _fetched(source: Remote, fetcher: Fetcher, wishes: Wishes) -> tuple[tuple[str, ...], str]:
    from invokeai_daemon.models.install.checks import Checksum
    from invokeai_daemon.models.install.fetch import Order

    checksum = Checksum.parse(wishes.checksum) if wishes.checksum else None
    known = {"name": wishes.name} if wishes.name else {}
    arrivals = fetcher.fetch(Order(source, wishes.folder, wishes.name, checksum, known))
    lines = [_line(arrival.path, arrival.was_there, wishes.root) for arrival in arrivals]
    return tuple(str(arrival.path) for arrival in arrivals), "\n".join(lines)


def _copied(path: Path, wishes: Wishes) -> tuple[tuple[str, ...], str]:
    from invokeai_daemon.models.install.local import install_local

    target, was_there = install_local(wishes.root, path, wishes.folder, link=wishes.link)
    return (str(target),), _line(target, was_there, wishes.root)


def _line(path: Path, was_there: bool, root: Root) -> str:
    if was_there:
        return f"{shown(path, root)} is there already."
    return f"Installed {shown(path, root)}; the daemon takes it up."


@contextmanager
def _progress() -> Iterator[Tell]:
    """A line per download on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda name, done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:
        tasks = {}

        def tell(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name.rpartition("/")[2] or name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield tell


# -- starters ----------------------------------------------------------------------------------------------------------


def _named(root: Root, names: Iterable[str]) -> Iterator[str]:
    """The starters that --starter names, each once."""
    from invokeai_daemon.models.install.starters import read_starters, recommended
    from invokeai_daemon.strict_toml import nearest

    starters = read_starters(root)[0]
    sets = {
        "recommended": [starter.name for starter in recommended(starters.values())],
        "default": [starter.name for starter in starters.values() if starter.default],
        "all": list(starters),
    }
    wanted: dict[str, None] = {}
    for name in names:
        if name not in sets and name not in starters:
            meant = nearest(name, [*sets, *starters])
            hint = f"Did you mean {meant}?" if meant else "`models install` lists them."
            raise ModelCommandError(f"There is no starter model {name}. {hint}")
        wanted |= dict.fromkeys(sets.get(name, [name]))
    yield from wanted


def _list(root: Root, as_json: bool) -> int:
    from invokeai_daemon.models.install.starters import FILE, read_starters

    starters, problems = read_starters(root)
    here = _installed(root)
    if as_json:
        print_json([_facts(starter, here) for starter in starters.values()])
    else:
        rows = [_row(starter, here) for starter in starters.values()]
        for line in table([("NAME", "GB", "", "DESCRIPTION"), *rows], terminal_width()):
            click.echo(line)
        click.echo("\nInstall one: invokeai-daemon models install NAME; the recommended: --starter recommended")
    for problem in problems:
        click.echo(f"{root.configs / FILE}: {problem}", err=True)
    return 0


def _installed(root: Root) -> set[str]:
    """Names and sources of the registered models."""
    from invokeai_daemon.models.registry import Registry

    entries = [entry for entry in Registry(root).models() if entry.status in ("ok", "unusable")]
    return {entry.name.casefold() for entry in entries} | {entry.source_url for entry in entries if entry.source_url}


def _is_installed(starter: Starter, here: set[str]) -> bool:
    addresses = {f"https://huggingface.co/{source}" for source in starter.sources} | set(map(str, starter.sources))
    return starter.name.casefold() in here or bool(addresses & here)


def _row(starter: Starter, here: set[str]) -> tuple[str, ...]:
    marks = [
        "installed" if _is_installed(starter, here) else "",
        "default" if starter.default else "recommended" if starter.recommended else "",
    ]
    size = f"{starter.size_gb:.2f}" if starter.size_gb is not None else ""
    return starter.name, size, ", ".join(filter(None, marks)), starter.description


def _facts(starter: Starter, here: set[str]) -> dict[str, object]:
    return {
        "name": starter.name,
        "description": starter.description,
        "sources": [str(source) for source in starter.sources],
        "size_gb": starter.size_gb,
        "recommended": starter.recommended,
        "default": starter.default,
        "installed": _is_installed(starter, here),
    }
