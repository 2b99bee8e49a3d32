"""The table of commands. Each is imported when it is called or when its help is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from invokeai_daemon import __version__

#: Command → module and attribute, in the order in which help lists them.
COMMANDS = {
    "demo": ("demo", "demo"),
    "init": ("init", "init"),
    "run": ("run", "run"),
    "status": ("status_command", "status"),
    "submit": ("submit", "submit"),
    "check": ("check", "check"),
    "jobs": ("jobs", "jobs"),
    "pause": ("pause", "pause"),
    "resume": ("pause", "resume"),
    "models": ("models", "models"),
    "metadata": ("metadata", "metadata"),
    "doctor": ("doctor", "doctor"),
    "service": ("service", "service"),
    "schema": ("schema", "schema"),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports them late."""

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], package: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._table, self._package = table, package

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._table:
            return None
        module, attribute = self._table[cmd_name]
        command: click.Command = getattr(import_module(f"{self._package}.{module}"), attribute)
        return command


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    package="invokeai_daemon.cli",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="invokeai-daemon")
def cli() -> None:
    """Drop a model in autoimport/, drop a job in inbox/, get pictures in outputs/.

    A root (the folder that holds these) is found by --root, then $INVOKEAI_DAEMON_ROOT, then the current folder if it
    is one, then ~/invokeai.
    """
