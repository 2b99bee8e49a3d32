"""Inputs: copies of the pictures that a job names, in `outputs/<job>/inputs/`; it is made again without the originals.

Called by the planner when a job is accepted, and when it starts. A copy is on disk, complete, before its name appears,
and never changes. `index.json` beside them says which path of the job each one is, until a job.toml does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from invokeai_daemon import files
from invokeai_daemon.job.names import safe_name
from invokeai_daemon.job.plan import Input
from invokeai_daemon.output.looking import PictureError, open_regular
from invokeai_daemon.root import INPUTS

INDEX = "index.json"
#: Bytes of a copy's name without its number.
MAX_NAME = 100
_PIECE = 1 << 20
_NUMBER = re.compile(r"\d+-(?=.)")


class Inputs:
    """The copies of one job, in the folder of its results."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self.folder = results / INPUTS

    def known(self) -> dict[str, Input]:
        """The copies by the paths that the job gives; none when there is no index that can be read."""
        try:
            with os.fdopen(open_regular(self.folder / INDEX), "rb") as file:
                listed = json.load(file)
            found = [Input(**{key: str(each[key]) for key in ("asked", "file", "hash")}) for each in listed]
        except (OSError, PictureError, ValueError, TypeError, KeyError):
            return {}
        return {each.asked: each for each in found if self._is_copy(each.file)}

    def planned(self, number: int, asked: str, hash: str) -> Input:
        """What the copy of a picture is called: the same for the same picture at the same place of a job."""
        before = self.known().get(asked)
        if before is not None and before.hash == hash:
            return before
        name = safe_name(_bare(asked), MAX_NAME)
        taken, wanted = 0, f"{number}-{name}"
        while not self._is_free(wanted, hash):
            taken += 1
            wanted = f"{number}-{taken + 1}-{name}"
        return Input(asked, f"{INPUTS}/{wanted}", hash)

    def keep(self, pictures: Mapping[str, tuple[Input, Path]]) -> None:
        """Copy pictures, each from a path, and note what they are. All is on disk then. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files.remove_leftovers([self.folder])
        for each, source in pictures.values():
            target = self._results / each.file
            if not target.exists():
                _copy(source, target, each.hash)
        note = json.dumps([asdict(each) for each, _ in pictures.values()], indent=1, ensure_ascii=False)
        files.write_atomically(self.folder / INDEX, note + "\n")
        for folder in (self._results, self._results.parent):
            files.sync_folder(folder)

    def _is_copy(self, file: str) -> bool:
        return Path(file).parent == Path(INPUTS) and (self._results / file).is_file()

    def _is_free(self, name: str, hash: str) -> bool:
        path = self.folder / name
        return not path.exists() or hash_of(path) == hash


def hash_of(path: Path) -> str:
    """The hash of a file as inputs are noted. Raises OSError."""
    with os.fdopen(open_regular(path), "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _bare(asked: str) -> str:
    """The name of a picture, without the number that it has as an input of an earlier job."""
    path = Path(asked)
    return _NUMBER.sub("", path.name, count=1) if path.parent.name == INPUTS else path.name


def _copy(source: Path, target: Path, hash: str) -> None:
    """A copy that shares nothing with its source, and is what was looked at."""
    temporary = files.temporary_beside(target)
    digest = hashlib.sha256()
    try:
        with os.fdopen(open_regular(source), "rb") as read, temporary.open("xb") as written:
            while piece := read.read(_PIECE):
                digest.update(piece)
                written.write(piece)
            written.flush()
            os.fsync(written.fileno())
        if f"sha256:{digest.hexdigest()}" != hash:
            raise BlockingIOError(0, "was written to while it was copied", str(source))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
