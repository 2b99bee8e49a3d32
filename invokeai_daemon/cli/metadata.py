"""`metadata`: what a picture records about how it was made: as text, JSON, a job, or a prompt command."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from invokeai_daemon.cli.options import json_option
from invokeai_daemon.errors import JobError, Problem
from invokeai_daemon.job.commands import to_command, unsaid
from invokeai_daemon.job.records import Record, job_of_record
from invokeai_daemon.output.metadata import read_record


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@json_option
@click.option("--job", "as_job", is_flag=True, help="Print a job file that makes the picture again.")
@click.option("--command", "as_command", is_flag=True, help="Print a prompt command of InvokeAI 2.3.")
def metadata(paths: tuple[Path, ...], as_json: bool, as_job: bool, as_command: bool) -> int:
    """Show how pictures were made: ours, InvokeAI's and AUTOMATIC1111's."""
    if as_json + as_job + as_command > 1:
        raise click.UsageError("--json, --job and --command are three answers: ask for one.")
    records, code = _read(paths)
    if as_json:
        found = [{"file": record.where, **record.as_json()} for record in records]
        click.echo(json.dumps(found[0] if len(paths) == 1 and found else found, indent=2, ensure_ascii=False))
        return code
    form = _form(as_job, as_command)
    for record in records:
        try:
            click.echo(form(record))
        except JobError as error:
            click.echo(f"invokeai-daemon: {error}", err=True)
            code = 1
    return code


def _read(paths: Sequence[Path]) -> tuple[list[Record], int]:
    """The records of these files; 1 as the code when one has none, which is said at once."""
    records, code = [], 0
    for path in paths:
        try:
            records.append(read_record(path))
        except JobError as error:
            print(f"invokeai-daemon: {error}", file=sys.stderr)
            code = 1
        except OSError as error:
            print(f"invokeai-daemon: {path} cannot be read: {error.strerror}.", file=sys.stderr)
            code = 1
    return records, code


def _form(as_job: bool, as_command: bool) -> Callable[[Record], str]:
    if as_job:
        return lambda record: job_of_record(record).rstrip()
    return command_of if as_command else text_of


def command_of(record: Record) -> str:
    """The prompt command. Raises JobError where a job, or a command, cannot ask for what was recorded."""
    problems = record.problems or [
        Problem("No prompt command can say it.", key, hint="Ask for --job.") for key in unsaid(record.job)
    ]
    if problems:
        raise JobError(record.where, problems)
    return to_command(record.job)


def text_of(record: Record) -> str:
    """The record for people: the file, who wrote it, and the keys of a job."""
    said = dict(_flat(record.job))
    width = max(map(len, said), default=0)
    keys = [f"  {key.ljust(width)}  {value}".rstrip() for key, value in said.items()]
    problems = [f"  note: {problem}" for problem in record.problems]
    return "\n".join([f"{record.where} (written by {record.writer})", *keys, *problems])


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The keys of tables within tables, named as in messages ("loras[0].name"), and their values."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{key}[{number}]")
    else:
        yield key, str(value).lower() if isinstance(value, bool) else str(value)
