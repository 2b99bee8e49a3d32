"""`init`: make a root."""

from __future__ import annotations

from pathlib import Path

import click

from invokeai_daemon.cli.schema import write_schema
from invokeai_daemon.files import write_atomically
from invokeai_daemon.models.install.starters import write_starters
from invokeai_daemon.root import Root

SETTINGS_TEXT = """\
# Settings of this root. Every key has a default; see the README's table for all of them.

[render]
# device = "auto"          # auto, cpu, cuda, cuda:1, mps
# precision = "auto"       # auto, float32, bfloat16, float16

[defaults]
# any key of a job, for jobs that do not set it
# steps = 30
"""


@click.command()
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
def init(directory: Path) -> None:
    """Make a root in DIRECTORY (default: here). What is there already stays as it is."""
    root = Root(directory.absolute())
    make_root(root)
    click.echo(f"{root.path} is a root.")
    click.echo(f"Start the daemon with: invokeai-daemon run --root {directory}")


def make_root(root: Root) -> None:
    """Make the folders, the settings file with its defaults as comments, the schema of a job, the starters."""
    root.make()
    if not root.settings_file.exists():
        write_atomically(root.settings_file, SETTINGS_TEXT)
    write_schema(root.configs / "job.schema.json")
    write_starters(root)
