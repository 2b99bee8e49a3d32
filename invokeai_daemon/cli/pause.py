"""`pause` and `resume`: the file `inbox/PAUSE`, made and removed."""

from __future__ import annotations

import click

from invokeai_daemon.cli.options import with_root
from invokeai_daemon.root import Root
from invokeai_daemon.spool.spool import Spool


@click.command()
@with_root
def pause(root: Root) -> None:
    """Start no new work; what is being rendered is finished."""
    Spool(root).pause()
    click.echo("Paused: jobs are taken in and wait. Go on with: invokeai-daemon resume")


@click.command()
@with_root
def resume(root: Root) -> None:
    """Go on after `pause`."""
    Spool(root).resume()
    click.echo("Resumed.")
