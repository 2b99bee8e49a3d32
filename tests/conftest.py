"""What tests of several rooms share: a root of their own, and the program as users start it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from invokeai_daemon.root import Root

Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A root with all its folders and nothing in them."""
    made = Root(tmp_path / "root")
    made.make()
    return made


@pytest.fixture
def program(root: Root, tmp_path: Path) -> Program:
    """`program("status", "--json")`: the program as a process of its own, with `root` as its root."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("INVOKEAI_DAEMON_")}
    environment |= {"INVOKEAI_DAEMON_ROOT": str(root.path), "HOME": str(tmp_path / "home"), "COLUMNS": "120"}
    # Test pictures would share the renderer with what is tested.
    environment["INVOKEAI_DAEMON_IMPORT_THUMBNAILS"] = "false"
    environment.pop("XDG_CONFIG_HOME", None)

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "invokeai_daemon", *map(str, arguments)]
        settings = {"env": environment, "cwd": tmp_path, "timeout": 280} | options
        return subprocess.run(command, capture_output=True, text=True, check=False, **settings)  # type: ignore[call-overload, no-any-return]

    return run
