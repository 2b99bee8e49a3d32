"""Tries: how often each image of a running job was begun, on disk before it is begun.

The note lies beside the job, `running/<id>.tries.json`. It lists the images that a worker holds (`handed`) and the
tries that ended badly (`lost`). A start that finds images still handed knows that a crash interrupted them, and
counts that against them. The first try of a job is already on disk as its rename into `running/`, so only later
tries wait for the disk; without a note after a power cut, the first images that are not published count as handed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from invokeai_daemon import files

SUFFIX = ".tries.json"


@dataclass
class Tries:
    """The tries of one job. Image numbers are those of its plan."""

    path: Path
    #: Images that a worker holds.
    handed: set[int] = field(default_factory=set)
    #: Image number -> tries that ended badly; one that somebody else may have ended counts half.
    lost: dict[int, float] = field(default_factory=dict)
    #: False when there was no readable note: then `handed` is not known.
    noted: bool = False

    @classmethod
    def of(cls, running: Path) -> Tries:
        """The note of a job file in running/, or an empty one."""
        path = running.with_name(running.name.removesuffix(".toml") + SUFFIX)
        try:
            note = json.loads(path.read_bytes())
            handed = {int(number) for number in note["handed"]}
            lost = {int(number): float(count) for number, count in note["lost"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(path)
        return cls(path, handed, lost, noted=True)

    def hand(self, images: Iterable[int]) -> None:
        """Note that a worker gets these images now. Waits for the disk when one of them was lost before.

        Raises OSError when the note cannot be written; then nothing is handed.
        """
        images = set(images)
        before = set(self.handed)
        self.handed |= images
        try:
            self._write(durable=any(number in self.lost for number in images))
        except OSError:
            self.handed = before
            raise

    def settle(self, image: int) -> None:
        """An image is published, failed or given back. Not written: the next note or the result says so too."""
        self.handed.discard(image)

    def release(self) -> None:
        """The worker gave back what it held, without fault: nothing counts as interrupted."""
        self.handed.clear()
        with suppress(OSError):
            self._write(durable=False)

    def lose(self, images: Iterable[int], cost: float = 1.0) -> None:
        """These tries ended badly: count them, on disk; in memory where the disk takes nothing."""
        for number in images:
            self.lost[number] = self.lost.get(number, 0.0) + cost
            self.handed.discard(number)
        with suppress(OSError):
            self._write(durable=True)

    def _write(self, durable: bool) -> None:
        note = {"handed": sorted(self.handed), "lost": {str(number): n for number, n in sorted(self.lost.items())}}
        files.write_atomically(self.path, json.dumps(note), durable=durable)
        self.noted = True
