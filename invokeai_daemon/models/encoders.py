"""Image encoders: which one an IP-Adapter was trained with, told by the width of what it takes. Called by the planner.

Reads headers and configs only, and no pickle: what is not known is asked of the user, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from invokeai_daemon.errors import ModelError
from invokeai_daemon.models.entries.entry import Entry
from invokeai_daemon.models.header import read_header

#: The layer of an adapter that takes what the encoder says, and whether that is said of the picture or of its parts.
_TAKES = {
    "image_proj.proj.weight": "picture",
    "image_proj.proj_in.weight": "parts",
    "image_proj.proj.0.weight": "parts",
}
_SAFE = ".safetensors"


@dataclass(frozen=True)
class Width:
    """How wide the vectors are that describe a picture as a whole, or each of its parts."""

    of: str
    width: int


def fitting(adapter: Entry, encoders: Iterable[Entry]) -> list[Entry]:
    """The image encoders that an adapter can go with; of those that do not tell their widths each may."""
    taken = width_taken(Path(adapter.path))
    given = [(entry, widths_given(Path(entry.path))) for entry in encoders]
    sure = [entry for entry, widths in given if taken is not None and taken in widths]
    return sure or [entry for entry, widths in given if taken is None or not widths]


def width_taken(path: Path) -> Width | None:
    """What an adapter takes of its encoder; None when its file does not tell."""
    for file in sorted(path.glob(f"*{_SAFE}")) if path.is_dir() else [path]:
        if file.suffix.lower() != _SAFE:
            continue
        with suppress(ModelError, OSError):
            tensors = read_header(file).tensors
            for name, of in _TAKES.items():
                if name in tensors:
                    return Width(of, tensors[name].shape[-1])
    return None


def widths_given(folder: Path) -> frozenset[Width]:
    """What an encoder says; nothing when its config does not tell."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return frozenset()
    if not isinstance(config, dict):
        return frozenset()
    nested = config.get("vision_config")
    vision = nested if isinstance(nested, dict) else config
    known = {
        "picture": config.get("projection_dim") or vision.get("projection_dim"),
        "parts": vision.get("hidden_size"),
    }
    return frozenset(Width(of, width) for of, width in known.items() if isinstance(width, int))
