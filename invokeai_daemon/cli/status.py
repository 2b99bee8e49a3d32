"""`status`: one screen that answers "is it working, what is it doing, what needs me".

It must answer at once, also in loops and prompts of shells: so it reads the daemon's status file and counts names in
folders, and imports neither click nor rich (both together cost more than the rest of its work), nor pydantic or torch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from invokeai_daemon.cli import screen, snapshot
from invokeai_daemon.cli.roots import open_root
from invokeai_daemon.root import Root

EXIT_CODES = {"running": 0, "degraded": 1, "stopped": 3}
HOME_AND_CLEAR = "\x1b[H\x1b[J"


def run(arguments: Sequence[str]) -> int:
    """Print the status; the exit code says it too: 0 healthy, 1 degraded, 3 not running (of a JOB: 1 failed)."""
    options = _parser().parse_args(arguments)
    root = open_root(options.root)
    if options.watch:
        return _watch(root, options)
    return _show(root, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="invokeai-daemon status",
        description="Is it working, what is it doing, what needs me?",
        epilog="Exit codes: 0 healthy, 1 degraded, 3 not running; of a JOB: 0, or 1 when it failed or is not known.",
    )
    parser.add_argument("job", nargs="?", metavar="JOB", help="the status of one job")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parser.add_argument("--watch", action="store_true", help="keep the screen up to date until Ctrl-C")
    parser.add_argument("--root", metavar="DIR", help="the root (default: see `invokeai-daemon --help`)")
    return parser


def _show(root: Root, options: argparse.Namespace) -> int:
    now = time.time()
    if options.job:
        return _show_job(root, options.job, options.json)
    taken = snapshot.take(root, now)
    _print(taken, screen.lines(taken, now), options.json)
    return EXIT_CODES[taken["state"]]


def _show_job(root: Root, name: str, as_json: bool) -> int:
    job = snapshot.job(root, name)
    _print(job, screen.job_lines(job), as_json)
    return 1 if job["state"] in ("failed", "unknown") else 0


def _print(value: dict[str, Any], lines: Sequence[screen.Line], as_json: bool) -> None:
    if as_json:
        # A name that is no UTF-8 stays readable JSON, whatever the terminal takes.
        print(json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode())
    else:
        print(screen.paint(lines, _colours_wanted()))


def _watch(root: Root, options: argparse.Namespace) -> int:
    """Show again every second. Ends with Ctrl-C, and with a job when that is over."""
    while True:
        if not options.json:
            print(HOME_AND_CLEAR, end="")
        code = _show(root, options)
        sys.stdout.flush()
        if options.job and snapshot.job(root, options.job)["state"] in ("done", "failed", "unknown"):
            return code
        time.sleep(1.0)


def _colours_wanted() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
