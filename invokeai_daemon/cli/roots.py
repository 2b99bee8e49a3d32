"""Which root a command is about. Without click, since `status` uses it too."""

from __future__ import annotations

import os
from pathlib import Path

from invokeai_daemon.root import Root, find_root


def open_root(named: str | None) -> Root:
    """The root that --root, the environment or the current folder names. Raises RootNotFound."""
    return find_root(named, os.environ, Path.cwd(), Path.home())


def shown(path: Path, root: Root) -> str:
    """A path as people say it: below the root without the root, else whole."""
    return str(path.relative_to(root.path)) if path.is_relative_to(root.path) else str(path)
