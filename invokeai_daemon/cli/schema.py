"""`schema`: the JSON Schema of a job file, so that editors complete and check jobs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from invokeai_daemon.files import write_atomically


@click.command()
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file instead.")
def schema(output: Path | None) -> None:
    """Print the JSON Schema of a job file."""
    if output is None:
        click.echo(schema_text(), nl=False)
    else:
        write_schema(output)


def schema_text() -> str:
    from invokeai_daemon.job.schema import json_schema

    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def write_schema(path: Path) -> None:
    """Write the schema if the file says something else."""
    text = schema_text()
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)
