"""Whether the weights in a model's folder are whole and safe: their headers are read, as those of single files are.

Called by the importer for a folder that stays where it lies: what it is, its configs say, which prove nothing about the
files beside them. No tensor is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from invokeai_daemon.models.header import read_header
from invokeai_daemon.models.identify.folder_weights import stock_of


def refuse_broken_weights(folder: Path) -> None:
    """Raises UnreadableModel or UnsafeModel for the first weight file that a loader would take and must not."""
    for part in (folder, *_parts(folder)):
        for path in stock_of(part).files:
            read_header(path)


def _parts(folder: Path) -> Iterator[Path]:
    """The folders directly in it, as pipelines have them."""
    return (path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith("."))
