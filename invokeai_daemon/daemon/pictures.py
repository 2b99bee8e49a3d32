"""Pictures: where the ones that a job names lie, whether it may have them, and what they are. Called by the planner.

A path is looked up beside the job, among the copies of the job's own, and in the root. What it leads to must lie in the
root or in a folder that the settings allow; a path that climbs out of where it began is refused as it stands.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from invokeai_daemon.daemon.settle import Signature
from invokeai_daemon.output.looking import PictureError, Seen, look
from invokeai_daemon.root import Root
from invokeai_daemon.settings import LimitSettings

#: A picture to start from may be so many times larger than the largest that may be made.
PIXELS_FACTOR = 4
#: Pictures that are remembered; each is looked at when its job arrives and when it starts.
MOST_REMEMBERED = 256


#: A folder, or copies by the paths that a job gives.
Place = Path | Mapping[str, Path]


@dataclass(frozen=True)
class Found:
    """A picture that a job may have."""

    #: Where it is, without links.
    path: Path
    seen: Seen


class Pictures:
    """The pictures within reach of the jobs of one root."""

    def __init__(self, root: Root, limits: LimitSettings) -> None:
        self._root, self._limits = root, limits
        self._seen: dict[tuple[Path, Signature], Seen] = {}

    def find(self, asked: str, places: Sequence[Place]) -> Found:
        """The picture of a path that a job gives, at the first of these places, or in the root.

        Raises PictureError, and OSError.
        """
        path = self._allowed(self.place(asked, places))
        return Found(path, self._look(path))

    def place(self, asked: str, places: Sequence[Place]) -> Path:
        """Where a picture lies, whatever it is. Raises PictureError."""
        if ".." in Path(asked).parts:
            raise PictureError(
                f"{asked} climbs out of its folder.", "Put the picture beside the job, or give its path from the root."
            )
        looked: dict[Path, None] = {}
        for place in (*places, self._root.path):
            path = place / asked if isinstance(place, Path) else place.get(asked)
            if path is not None and os.path.lexists(path):
                return path
            if path is not None:
                looked[path] = None
        where = " or ".join(self._shown(path) for path in looked)
        hint = "Put it beside the job and drop both again."
        if asked.startswith("~"):
            hint = f"~ is not replaced in jobs. {hint}"
        raise PictureError(f"No picture is at {where}.", hint, is_passing=True)

    def _allowed(self, path: Path) -> Path:
        """What a path leads to, if a job may have it."""
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise PictureError(f"{self._shown(path)} leads nowhere: {error}.", is_passing=True) from error
        allowed = [self._root.path, *map(Path, self._limits.image_folders)]
        if any(real.is_relative_to(os.path.realpath(folder)) for folder in allowed):
            return real
        raise PictureError(
            f"{real} lies outside of the root.",
            "Copy it beside the job, or add its folder to image_folders under [limits] in configs/daemon.toml.",
        )

    def _look(self, path: Path) -> Seen:
        key = path, Signature.of(path)
        seen = self._seen.pop(key, None)
        if seen is None:
            seen = look(path, self._shown(path), self._limits.image_bytes, PIXELS_FACTOR * self._limits.max_pixels)
        self._seen[key] = seen
        while len(self._seen) > MOST_REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return seen

    def _shown(self, path: Path) -> str:
        text = str(path.relative_to(self._root.path)) if path.is_relative_to(self._root.path) else str(path)
        return text if text.isprintable() else ascii(text)[1:-1]
