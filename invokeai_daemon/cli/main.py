"""The program `invokeai-daemon`: finds the command, and turns errors into messages and exit codes.

A command lives in a module of its own and is imported when it is called, so that none pays for another's imports.
This module imports click only when it is needed: `status` does without, since scripts and people call it all the time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from invokeai_daemon.errors import DaemonError, RootInUse, RootNotFound, SettingsError

#: Exit codes of sysexits.h, which the systemd unit knows as reasons not to try again.
EXIT_IN_USE = 75
EXIT_CONFIGURATION = 78
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command that the command line names, and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. The boundary where errors of the daemon become one message each."""
    try:
        return _dispatch(arguments)
    except DaemonError as error:
        print(f"invokeai-daemon: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`| head`): what Python would still flush at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def exit_code(error: DaemonError) -> int:
    if isinstance(error, RootInUse):
        return EXIT_IN_USE
    return EXIT_CONFIGURATION if isinstance(error, SettingsError | RootNotFound) else 1


def _dispatch(arguments: Sequence[str]) -> int:
    if list(arguments[:1]) == ["status"]:
        from invokeai_daemon.cli import status

        return status.run(arguments[1:])
    return _run_click(arguments)


def _run_click(arguments: Sequence[str]) -> int:
    import click

    from invokeai_daemon.cli.commands import cli

    try:
        result = cli.main(list(arguments), prog_name="invokeai-daemon", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return result if isinstance(result, int) else 0
