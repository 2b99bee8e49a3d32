"""`models show`: all that is known of a model, the facts that decided it, and its picture where the terminal can."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from invokeai_daemon.cli.models.identify import Judge, judging
from invokeai_daemon.cli.models.report import print_json, table
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@json_option
@with_root
def show(root: Root, names: tuple[str, ...], as_json: bool) -> None:
    """Show all that is known of models. NAME may be a unique start of a name, or a hash."""
    registry = Registry(root)
    entries = [registry.find(name) for name in names]
    if as_json:
        facts = [entry.as_json() for entry in entries]
        print_json(facts[0] if len(facts) == 1 else facts)
        return
    with judging() as judged:
        for number, entry in enumerate(entries):
            if number:
                click.echo()
            for line in table([*_rows(entry), *_evidence(entry, judged)]):
                click.echo(line)
            _draw(entry)


def _rows(entry: Entry) -> Iterator[tuple[str, str]]:
    for key, value in entry.as_json().items():
        if value in (None, "", [], {}, False):
            continue
        lines = [_text(one) for one in value] if isinstance(value, list) else _text(value).splitlines()
        for number, line in enumerate(lines):
            yield ("" if number else key), line


def _evidence(entry: Entry, judged: Judge) -> Iterator[tuple[str, str]]:
    """What in the file itself, looked at once more, says what it is."""
    if not entry.source or not os.path.lexists(entry.source):
        return
    for number, fact in enumerate(judged(Path(entry.source)).identity.evidence):
        yield ("" if number else "because"), fact


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key} = {_text(one)}" for key, one in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _draw(entry: Entry) -> None:
    if entry.cover_image and sys.stdout.isatty():
        from invokeai_daemon.cli.models.picture import draw

        draw(entry.cover_image)
