"""`status` as click's help sees it. Called as the first word of a command line it never passes here; see `main`."""

from __future__ import annotations

import click

from invokeai_daemon.cli import status as program


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def status(arguments: tuple[str, ...]) -> int:
    """Is it working, what is it doing, what needs me?"""
    return program.run(arguments)
