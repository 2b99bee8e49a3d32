"""`run`: the daemon itself, in the foreground. A service manager or a shell's `&` puts it into the background."""

from __future__ import annotations

import os

import click

from invokeai_daemon.cli.init import make_root
from invokeai_daemon.cli.options import with_root
from invokeai_daemon.root import Root


@click.command()
@click.option("--once", is_flag=True, help="Work off what is there, then end.")
@click.option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps; goes before the settings.")
@click.option("--precision", metavar="TYPE", help="auto, float32, bfloat16 or float16; goes before the settings.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--verbose", "-v", is_flag=True, help="Log more.")
@with_root
def run(root: Root, once: bool, device: str | None, precision: str | None, log_format: str, verbose: bool) -> int:
    """Serve a root until it is stopped (Ctrl-C, SIGTERM). Logs go to standard error.

    Exits 75 when another daemon holds the root, 78 when the settings are unusable.
    """
    import logging

    from invokeai_daemon.daemon import logs
    from invokeai_daemon.daemon.run import serve
    from invokeai_daemon.settings import load_settings

    asked = {"device": device, "precision": precision}
    flags = {"render": {key: value for key, value in asked.items() if value is not None}}
    settings = load_settings(root.settings_file, os.environ, flags)
    logs.set_up(log_format, level=logging.DEBUG if verbose else logging.INFO)
    make_root(root)
    return serve(root, settings, once)
