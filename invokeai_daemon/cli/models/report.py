"""What the model commands print: tables that fit the terminal, JSON, and a line for each of many models."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from invokeai_daemon.errors import DaemonError, ModelError

#: Columns get at least this, however small the terminal is.
NARROWEST = 8


class ModelCommandError(ModelError):
    """The command does not fit the model."""


@dataclass(frozen=True)
class Outcome:
    """What a command did with one of the models, files or folders that it was given."""

    name: str
    ok: bool
    #: What was done, or why not: a sentence.
    message: str


def each(names: Iterable[str], act: Callable[[str], str]) -> Iterator[Outcome]:
    """What `act` did with each name; one that fails stops no other."""
    for name in names:
        try:
            yield Outcome(name, True, act(name))
        except DaemonError as error:
            yield Outcome(name, False, str(error))
        except OSError as error:
            yield Outcome(name, False, f"{error.filename or name}: {error.strerror or error}.")


def report(outcomes: Iterable[Outcome], as_json: bool) -> int:
    """Say what became of each, as it happens; 1 if any failed."""
    seen = []
    for outcome in outcomes:
        seen.append(outcome)
        if not as_json:
            click.echo(outcome.message, err=not outcome.ok)
    if as_json:
        print_json([asdict(outcome) for outcome in seen])
    failed = [outcome for outcome in seen if not outcome.ok]
    if failed and len(seen) > 1 and not as_json:
        click.echo(
            f"{len(seen) - len(failed)} of {len(seen)} done; failed: {', '.join(one.name for one in failed)}.", err=True
        )
    return 1 if failed else 0


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def table(rows: Sequence[tuple[str, ...]], width: int | None = None) -> list[str]:
    """Rows as lines, each column as wide as its widest cell; the last column runs on, or is cut at `width`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width is not None:
        widths[0] = max(NARROWEST, min(widths[0], width - sum(widths[1:-1]) - 2 * len(widths)))
    widths[-1] = 0
    lines = (
        "  ".join(cut(cell, size) if size else cell for cell, size in zip(row, widths, strict=True)) for row in rows
    )
    return [shortened(line.rstrip(), width) for line in lines]


def cut(text: str, width: int) -> str:
    return shortened(text, width).ljust(width)


def shortened(text: str, width: int | None) -> str:
    """One line that fits, control characters shown as such."""
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if width is None or len(text) <= width else text[: max(1, width - 1)] + "…"


def terminal_width() -> int | None:
    """The columns of the terminal that is printed to; None for pipes and files, which take lines of any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
