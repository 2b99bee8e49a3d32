"""Companions: the files that belong to a model because they have its stem: `cat.toml` beside `cat.safetensors`.

Called by the daemon, the importer and the commands, who decide what to do with them. Nothing is opened here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

#: Ends of the names of each companion, the one that is preferred first.
ENDS = {
    "sidecar": (".toml",),
    "yaml": (".yaml", ".yml"),
    "vae": (".vae.safetensors", ".vae.ckpt", ".vae.pt"),
    "preview": (
        ".png",
        ".jpg",
        ".jpeg",
        ".webp",
        ".preview.png",
        ".preview.jpg",
        ".preview.jpeg",
        ".preview.webp",
    ),
    "json": (".json",),
}


@dataclass(frozen=True)
class Companions:
    """What stands beside a model; None for what does not."""

    #: What the user says about it, in this daemon's words.
    sidecar: Path | None = None
    #: The config that it was trained with.
    yaml: Path | None = None
    #: A VAE that replaces its own.
    vae: Path | None = None
    #: A picture of what it does.
    preview: Path | None = None
    #: What the user says about it, in the words of InvokeAI and A1111.
    json: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        """Those that are there."""
        return (path for field in fields(self) if (path := getattr(self, field.name)) is not None)


def companions_of(path: Path, names: Collection[str] | None = None) -> Companions:
    """The companions of a model file or folder. A link counts when it leads to a file.

    `names` are the names in its folder where the caller has them already: then only those are looked at.
    """
    stem = path.name if path.is_dir() else path.stem
    found = {kind: _first(path, [stem + end for end in ends], names) for kind, ends in ENDS.items()}
    return Companions(**found)


def _first(path: Path, wanted: list[str], names: Collection[str] | None) -> Path | None:
    for name in wanted:
        beside = path.with_name(name)
        if name != path.name and (names is None or name in names) and is_file(beside):
            return beside
    return None


def is_file(path: Path) -> bool:
    """Whether a file is there; none can be under a name that is too long for the file system."""
    try:
        return path.is_file()
    except OSError:
        return False
