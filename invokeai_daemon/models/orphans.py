"""Orphans: folders in `models/` that no entry names. Found for `models sync`, deleted only when it is asked to.

Only a folder that the daemon made (it has our marker), that lies in the root itself and not behind a link, may go.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from invokeai_daemon.files import TEMPORARY_PREFIX
from invokeai_daemon.models.convert.conversion import MARKER
from invokeai_daemon.models.convert.store import read_marker
from invokeai_daemon.models.registry import Entry
from invokeai_daemon.root import Root

#: models/<base>/<type>/<name>
DEPTH = 3
#: A folder appears a moment before its entry does.
YOUNG_SECONDS = 600.0


@dataclass(frozen=True)
class Orphan:
    """A folder of a model that no entry names."""

    path: Path
    nbytes: int
    #: Why it may not be deleted: a sentence; empty when it may.
    stays: str
    #: What it was converted from, as its marker says.
    source: str


def orphans(root: Root, entries: Iterable[Entry]) -> Iterator[Orphan]:
    """The folders where the daemon keeps its conversions that no entry names, by path."""
    named = {os.path.normpath(entry.path) for entry in entries if entry.path}
    ancestors = {str(parent) for path in named for parent in Path(path).parents}
    for folder in _folders(root.models, DEPTH):
        is_named = str(folder) in named or str(folder) in ancestors
        if not is_named and not any(str(parent) in named for parent in folder.parents):
            marker = read_marker(folder) or {}
            yield Orphan(folder, _nbytes(folder), why_it_stays(root, folder), str(marker.get("source") or ""))


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """The model folders below a folder, links not followed; unfinished conversions are left to the importer."""
    try:
        below = sorted(
            path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(TEMPORARY_PREFIX)
        )
    except OSError:
        return
    for path in below:
        if depth == 1 or path.is_symlink() or (path / MARKER).exists():
            yield path
        else:
            yield from _folders(path, depth - 1)


def why_it_stays(root: Root, folder: Path) -> str:
    """Why a folder is none that the daemon may delete; empty for its own."""
    if folder.is_symlink() or folder.resolve() != root.models.resolve() / folder.relative_to(root.models):
        return "it is reached through a link"
    if not (folder / MARKER).is_file() or (folder / MARKER).is_symlink():
        return "the daemon did not make it"
    return ""


def is_young(folder: Path) -> bool:
    """Whether it was made so lately that its entry may be on its way."""
    return time.time() - (folder / MARKER).stat().st_mtime < YOUNG_SECONDS


def delete(root: Root, folder: Path) -> bool:
    """Delete a folder of the daemon's own; False for any other."""
    if why_it_stays(root, folder):
        return False
    # The marker goes last: what a crash leaves behind is still known as the daemon's own.
    for path in sorted(folder.iterdir()):
        if path.name == MARKER:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.rmtree(folder)
    return True


def derived_copy(root: Root, entry: Entry) -> Path | None:
    """The folder that the daemon made for a model; None for what it did not make, what lies elsewhere, and links."""
    folder = Path(entry.path or "/")
    inside = folder.is_relative_to(root.models) and folder != root.models
    return folder if inside and folder.is_dir() and not why_it_stays(root, folder) else None


def _nbytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
