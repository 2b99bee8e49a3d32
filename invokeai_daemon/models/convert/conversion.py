"""A conversion that is planned: the files to write, what their bytes are made of, and how to write and check them.

Made by the plan, executed by the store. Knows nothing of model families; never holds more of a tensor than a piece.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.files import sync_file, sync_folder
from invokeai_daemon.models.convert.copying import content_hash, copy_file, same_bytes
from invokeai_daemon.models.convert.options import ConvertOptions
from invokeai_daemon.models.convert.writing import Run, holds, write_safetensors
from invokeai_daemon.models.header import crc_watch, opened, read_header
from invokeai_daemon.models.identity import Identity

#: What a folder that the daemon made has, and says where it came from.
MARKER = ".invokeai-daemon.json"
#: Told the bytes done and the bytes there are.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class WeightFile:
    """A safetensors file to write: its path in the folder, and its tensors in the order of their bytes."""

    path: str
    source: Path
    runs: tuple[Run, ...]

    @property
    def nbytes(self) -> int:
        return sum(run.nbytes for run in self.runs)


@dataclass(frozen=True)
class FileCopy:
    """A file of another diffusers folder, taken as it is."""

    path: str
    source: Path
    nbytes: int
    #: It lies in a folder that the daemon made and never changes: the copy may be another name of the same file.
    is_ours: bool = False


@dataclass(frozen=True)
class Conversion:
    """A model file's way into a diffusers folder."""

    source: Path
    identity: Identity
    weights: tuple[WeightFile, ...]
    #: Path in the folder -> content of a JSON file.
    configs: Mapping[str, Mapping[str, Any]]
    #: What was left out or decided and why, as sentences.
    notes: tuple[str, ...]
    copies: tuple[FileCopy, ...] = ()
    #: Folder -> what fills it.
    writers: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    options: ConvertOptions = field(default_factory=ConvertOptions)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors to write."""
        return sum(file.nbytes for file in self.weights) + sum(copy.nbytes for copy in self.copies)

    @property
    def others(self) -> tuple[Path, ...]:
        """The files besides the source that tensors come from."""
        return tuple(dict.fromkeys(file.source for file in self.weights if file.source != self.source))

    @property
    def fingerprint(self) -> str:
        """The same for two conversions that make the same folder of the same source files."""
        import blake3

        places = {path: place for place, path in enumerate((self.source, *self.others))}
        runs = [(file.path, places[file.source], [repr(run) for run in file.runs]) for file in self.weights]
        copies = [(file.path, str(file.source), file.nbytes) for file in self.copies]
        configs = {path: _lasting(content) for path, content in self.configs.items()}
        plan = json.dumps([runs, copies, configs, sorted(self.writers)], sort_keys=True)
        return blake3.blake3(plan.encode()).hexdigest()

    def execute(self, folder: Path, progress: Progress = lambda done, of: None) -> Result:
        """Fill the new `folder` and put it on disk.

        Raises UnreadableModel when a source ends early, OSError when the disk fails.
        """
        for path, content in self.configs.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(json.dumps(content, indent=2) + "\n")
        for name, write in self.writers.items():
            write(folder / name)
        result = self._copy(folder, progress)
        sync_tree(folder)
        return result

    def verify(self, folder: Path) -> None:
        """Read the folder's weights back from the disk and compare every byte with the sources.

        Raises UnreadableModel when one differs.
        """
        for file in self.weights:
            path = folder / file.path
            written = read_header(path).tensors
            with opened(file.source) as (source, _), _from_disk(path) as target:
                for run in file.runs:
                    if not holds(target, written[run.name].file_offset, source, run):
                        raise UnreadableModel(f"{path}: {run.name} is not what {file.source} holds.")
        for copy in self.copies:
            with opened(copy.source) as (source, _), _from_disk(folder / copy.path) as target:
                if not same_bytes(source, 0, target, 0, copy.nbytes):
                    raise UnreadableModel(f"{folder / copy.path}: is not what {copy.source} holds.")

    def _copy(self, folder: Path, progress: Progress) -> Result:
        """Copy the weights while a thread hashes the sources, each from its start to its end: they are read once."""
        done, of, stop = 0, self.nbytes, threading.Event()

        def moved(count: int) -> None:
            nonlocal done
            done += count
            progress(done, of)

        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(1))
            sources = {path: stack.enter_context(_open(path)) for path in (self.source, *self.others)}
            hashes = {
                path: pool.submit(content_hash, source, stop, crc_watch(path, source))
                for path, source in sources.items()
            }
            try:
                infinite = {
                    file.path: write_safetensors(sources[file.source], folder / file.path, file.runs, moved)
                    for file in self.weights
                }
                for copy in self.copies:
                    (folder / copy.path).parent.mkdir(parents=True, exist_ok=True)
                    copy_file(copy.source, folder / copy.path, moved, may_link=copy.is_ours)
            except BaseException:
                stop.set()
                raise
            return self._result(hashes, infinite)

    def _result(self, hashes: Mapping[Path, Future[str]], infinite: Mapping[str, int]) -> Result:
        notes = tuple(
            f"{count} value{'' if count == 1 else 's'} of {path} became infinite: {self.options.dtype} is too narrow "
            "for them"
            for path, count in infinite.items()
            if count
        )
        return Result(hashes[self.source].result(), {path: hashes[path].result() for path in self.others}, notes)


@dataclass(frozen=True)
class Result:
    """What was found out while the bytes went by."""

    #: The content hash of the source, "blake3:…".
    hash: str
    #: Those of the other files.
    others: Mapping[Path, str]
    notes: tuple[str, ...]


def sync_tree(folder: Path) -> None:
    """Put every file and name below a folder on disk."""
    for path in [*folder.rglob("*"), folder]:
        (sync_folder if path.is_dir() else sync_file)(path)


def _lasting(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "_diffusers_version"}


@contextmanager
def _open(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _from_disk(path: Path) -> Iterator[int]:
    """A file, open for reading what is on the disk, not what is left of it in memory."""
    with opened(path) as (descriptor, _):
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        yield descriptor
