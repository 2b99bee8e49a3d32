"""Plan a conversion from a header, and execute it: every tensor of the folder is a byte range of the file.

Called by `convert_model`. Planning reads nothing but the header; executing never holds a tensor.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import IncompleteModel, ModelError, UnreadableModel
from invokeai_daemon.files import sync_file, sync_folder
from invokeai_daemon.models.convert.copying import Run, content_hash, same_bytes, write_safetensors
from invokeai_daemon.models.convert.families import DTYPES, Component, Family, diffusers_version, family_of
from invokeai_daemon.models.convert.layout import MissingTensorError, Part, Rename, same_values
from invokeai_daemon.models.header import Header, TensorInfo, opened, read_header
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.models.tokenizer import write_clip_tokenizer

#: Told the bytes done and the bytes there are.
Progress = Callable[[int, int], None]

#: Names listed in a message before it says "and 12 more".
SHOWN = 3


@dataclass(frozen=True)
class WeightFile:
    """A safetensors file to write: its path in the folder, and its tensors in the order of their bytes."""

    path: str
    runs: tuple[Run, ...]

    @property
    def nbytes(self) -> int:
        return sum(run.nbytes for run in self.runs)


@dataclass(frozen=True)
class Conversion:
    """A model file's way into a diffusers folder."""

    source: Path
    identity: Identity
    weights: tuple[WeightFile, ...]
    #: Path in the folder -> content of a JSON file.
    configs: Mapping[str, Mapping[str, Any]]
    #: What was left out and why, as sentences.
    notes: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors to copy."""
        return sum(file.nbytes for file in self.weights)

    def execute(self, folder: Path, progress: Progress = lambda done, of: None) -> str:
        """Fill the new `folder` and put it on disk. Gives the hash of the source file, "blake3:…".

        Raises UnreadableModel when the source ends early, OSError when the disk fails.
        """
        for path, content in self.configs.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(json.dumps(content, indent=2) + "\n")
        write_clip_tokenizer(folder / "tokenizer")
        digest = self._copy(folder, progress)
        sync_tree(folder)
        return digest

    def verify(self, folder: Path) -> None:
        """Read the folder's weights back from the disk and compare every byte with the source.

        Raises UnreadableModel when one differs.
        """
        with opened(self.source) as (source, _):
            for file in self.weights:
                path = folder / file.path
                written = read_header(path).tensors
                with opened(path) as (target, _):
                    if hasattr(os, "posix_fadvise"):
                        os.posix_fadvise(target, 0, 0, os.POSIX_FADV_DONTNEED)
                    for run in file.runs:
                        if not same_bytes(source, run.offset, target, written[run.name].file_offset, run.nbytes):
                            raise UnreadableModel(f"{path}: {run.name} is not what {self.source} holds.")

    def _copy(self, folder: Path, progress: Progress) -> str:
        """Copy the weights while a thread hashes the source, both from its start to its end: it is read once."""
        done, stop = 0, threading.Event()

        def moved(count: int) -> None:
            nonlocal done
            done += count
            progress(done, self.nbytes)

        source = os.open(self.source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with ThreadPoolExecutor(1) as pool:
                digest = pool.submit(content_hash, source, stop)
                try:
                    for file in self.weights:
                        write_safetensors(source, folder / file.path, file.runs, moved)
                except BaseException:
                    stop.set()
                    raise
                return digest.result()
        finally:
            os.close(source)


def sync_tree(folder: Path) -> None:
    """Put every file and name below a folder on disk."""
    for path in [*folder.rglob("*"), folder]:
        (sync_folder if path.is_dir() else sync_file)(path)


def plan_conversion(header: Header, identity: Identity) -> Conversion:
    """How this file becomes a diffusers folder.

    Raises IncompleteModel, naming all that is missing or misshapen, and ModelError when there is no converter.
    """
    family = family_of(identity)
    if family is None:
        raise ModelError(f"{header.path}: there is no conversion of a {identity.base} {identity.type} model.")
    plans = [_Plan(component, header) for component in family.components]
    problems = [problem for plan in plans for problem in plan.problems]
    if problems:
        raise IncompleteModel(f"{header.path}: recognised but incomplete: {'; '.join(problems)}. Get the model again.")
    weights = sorted((plan.weight_file() for plan in plans), key=lambda file: file.runs[0].offset)
    used = {name for plan in plans for name in plan.used}
    return Conversion(
        source=header.path,
        identity=replace(identity, format="diffusers"),
        weights=tuple(weights),
        configs=_configs(family, identity, plans),
        notes=tuple(_notes(family, [name for name in header.tensors if name not in used])),
    )


class _Plan:
    """One component: its part as the shapes tell it, the tensors that make it, and what is wrong with them."""

    def __init__(self, component: Component, header: Header) -> None:
        self.component = component
        self.prefix = _prefix(component.part, header)
        tensors = header.tensors
        self.tensors = {
            name.removeprefix(self.prefix): info for name, info in tensors.items() if name.startswith(self.prefix)
        }
        self.part: Part | None = None
        self.renames: tuple[Rename, ...] = ()
        self.problems = tuple(self._examine())

    def _examine(self) -> Iterator[str]:
        if not self.tensors:
            yield f"no {self.component.folder} ({self.prefix}… is not in the file)"
            return
        try:
            self.part = self.component.part.infer({name: info.shape for name, info in self.tensors.items()})
        except MissingTensorError as error:
            yield f"{self.component.folder}: {self.prefix}{error.name}, which tells its layout, is missing or misshapen"
            return
        self.renames = tuple(self.part.renames())
        missing = [self.prefix + rename.source for rename in self.renames if rename.source not in self.tensors]
        if missing:
            share = f"{len(missing)} of {len(self.renames)} tensors are missing"
            yield f"{self.component.folder}: {share}: {_some(missing)}"
        wrong = [text for rename in self.renames if (text := self._mistake(rename))]
        if wrong:
            yield f"{self.component.folder}: {_some(wrong)}"

    def _mistake(self, rename: Rename) -> str:
        """What is wrong with a tensor that is there; empty when nothing is."""
        info = self.tensors.get(rename.source)
        if info is None:
            return ""
        name = self.prefix + rename.source
        if not same_values(info.shape, rename.shape):
            return f"{name} has shape {list(info.shape)}, expected {list(rename.shape)}"
        if info.dtype not in DTYPES:
            return f"{name} is stored as {info.dtype}; only {', '.join(DTYPES)} can be rendered"
        if info.file_offset < 0:
            return f"{name} cannot be copied: {info.reason}"
        return ""

    @property
    def used(self) -> Iterator[str]:
        return (self.prefix + rename.source for rename in self.renames)

    def weight_file(self) -> WeightFile:
        """Tensors in the order of the source, wide values first: so all lie on multiples of their size."""
        runs = [_run(rename, self.tensors[rename.source]) for rename in self.renames]
        runs.sort(key=lambda run: (-DTYPES[run.dtype], run.offset))
        return WeightFile(f"{self.component.folder}/{self.component.file}", tuple(runs))


def _prefix(part: type[Part], header: Header) -> str:
    for prefix in part.prefixes:
        if any(name.startswith(prefix) for name in header.tensors):
            return prefix
    return part.prefixes[0]


def _run(rename: Rename, info: TensorInfo) -> Run:
    return Run(rename.target, info.dtype, rename.shape, info.file_offset, info.nbytes)


def _configs(family: Family, identity: Identity, plans: Sequence[_Plan]) -> dict[str, Mapping[str, Any]]:
    configs: dict[str, Mapping[str, Any]] = {
        "model_index.json": family.model_index(identity),
        "scheduler/scheduler_config.json": family.scheduler_config(identity),
    }
    for plan in plans:
        assert plan.part is not None
        config = plan.part.config()
        if "_class_name" in config:
            config["_diffusers_version"] = diffusers_version()
        configs[f"{plan.component.folder}/config.json"] = config
    return configs


def _notes(family: Family, left: Sequence[str]) -> Iterator[str]:
    for prefix, what in family.unused.items():
        names = [name for name in left if name.startswith(prefix)]
        if names:
            yield f"{_tensors(names)} of {what} ({prefix}…) left out"
    parts = tuple(component.part.prefixes[-1] for component in family.components)
    strange = [
        name
        for name in left
        if name.startswith(parts) and not name.startswith(tuple(family.unused)) and not name.endswith("position_ids")
    ]
    if strange:
        yield f"{_tensors(strange)} without a place in a {family.base} model left out: {_some(strange)}"


def _tensors(names: Sequence[str]) -> str:
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}"


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more
