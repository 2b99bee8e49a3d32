"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from invokeai_daemon.cli.roots import open_root

Result = TypeVar("Result")


def with_root(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command the option --root; the function gets `root: Root`, found and checked."""

    @click.option("--root", "named_root", metavar="DIR", help="The root (default: see `invokeai-daemon --help`).")
    @functools.wraps(command)
    def wrapper(named_root: str | None, **arguments: Any) -> Result:
        return command(root=open_root(named_root), **arguments)

    return wrapper


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
