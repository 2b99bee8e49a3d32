"""`models`: the registry from the command line, one module per command. Each is imported when it is called.

All work with the daemon running and without it: the registry's file is changed under its lock.
"""

from __future__ import annotations

import click

from invokeai_daemon.cli.commands import LazyGroup

#: Command → module and attribute, in the order in which help lists them.
COMMANDS = {
    "list": ("listing", "list_"),
    "show": ("show", "show"),
    "identify": ("identify", "identify"),
    "import": ("importing", "import_"),
    "install": ("install", "install"),
    "convert": ("convert", "convert"),
    "edit": ("edit", "edit"),
    "remove": ("remove", "remove"),
    "sync": ("sync", "sync"),
    "reidentify": ("reidentify", "reidentify"),
    "export": ("export", "export"),
    "import-settings": ("import_settings", "import_settings"),
}


@click.group(cls=LazyGroup, table=COMMANDS, package="invokeai_daemon.cli.models")
def models() -> None:
    """The models that jobs can name, and everything that is done with them."""
