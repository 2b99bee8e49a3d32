"""One component of a model: which file keeps it, in which layout, what it becomes, and what is wrong with it.

Called by the plan for each component of a family. Reads headers of companion files, never a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.convert.casting import NARROW, WIDTHS, WORDS
from invokeai_daemon.models.convert.conversion import MARKER, FileCopy, WeightFile
from invokeai_daemon.models.convert.family import Component, Layout
from invokeai_daemon.models.convert.layout import MissingTensorError, Part, Rename, same_values
from invokeai_daemon.models.convert.options import ConvertOptions
from invokeai_daemon.models.convert.writing import Run
from invokeai_daemon.models.header import Header, TensorInfo, read_header

#: Names listed in a message before it says "and 12 more".
SHOWN = 3
#: What is taken of another model's folder, by the end of the name; a folder of texts has one of the second.
COPIED = (".safetensors", ".json", ".model", ".txt")
TEXTS = frozenset({"tokenizer.json", "spiece.model", "vocab.json", "preprocessor_config.json"})


@dataclass(frozen=True)
class Planned:
    """What becomes of a component. It is there when it has a part or is copied, and usable when it has no problems."""

    component: Component
    part: Part | None = None
    weights: tuple[WeightFile, ...] = ()
    copies: tuple[FileCopy, ...] = ()
    #: Names in the model's own file that it is made of.
    used: tuple[str, ...] = ()
    #: Where the model's own file keeps it; None when it comes from elsewhere.
    prefix: str | None = None
    #: How the names in the model's own file begin that something else is used in place of.
    replaced: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    #: No file has any of it.
    is_missing: bool = False

    @property
    def is_there(self) -> bool:
        return self.part is not None or bool(self.copies)


def examine(component: Component, header: Header, options: ConvertOptions) -> Planned:
    """Raises UnreadableModel when a companion cannot be read."""
    elsewhere = options.sources.get(component.name)
    if elsewhere is None:
        return _from_own_file(component, header, options)
    stems = tuple(layout.prefix for layout in component.layouts if layout.prefix)
    if elsewhere.is_dir():
        planned = _from_folder(component, elsewhere)
    else:
        planned = _from_companion(component, elsewhere, options)
    note = f"its {component.name} is that of {elsewhere.name}"
    return replace(planned, replaced=stems, notes=(note, *planned.notes))


def _from_own_file(component: Component, header: Header, options: ConvertOptions) -> Planned:
    if not component.layouts:
        return _missing(component, "it is not converted from single files")
    layout = _layout(component.layouts, header)
    tensors = _below(layout.prefix, header.tensors)
    if not tensors:
        return _missing(component, f"{layout.prefix or layout.stem}… is not in the file")
    look = _Look(component, layout, header, tensors, options)
    if not (options.use_ema and component.averaged):
        return look.planned(prefix=layout.prefix)
    averaged = _averaged(component.averaged, look, header)
    if averaged is None:
        note = "averaged weights were asked for, and the file has no complete copy of them: the others are used"
        return replace(look.planned(prefix=layout.prefix), notes=(note,))
    return replace(averaged.planned(prefix=layout.prefix), replaced=(layout.prefix,))


def _missing(component: Component, why: str) -> Planned:
    if component.optional:
        return Planned(component)
    return Planned(component, problems=(f"no {component.name} ({why})",), is_missing=True)


def _from_companion(component: Component, path: Path, options: ConvertOptions) -> Planned:
    header = read_header(path)
    layout = _layout(component.apart or component.layouts, header)
    tensors = _below(layout.prefix, header.tensors)
    if not any(name.startswith(layout.part.signature) for name in tensors):
        raise UnreadableModel(f"{path}: has no {component.name} in a known layout. Move it away or get it again.")
    return replace(_Look(component, layout, header, tensors, options).planned(), used=())


def _from_folder(component: Component, folder: Path) -> Planned:
    """The files that matter of a folder as diffusers and transformers have it."""
    kept = [path for path in sorted(folder.iterdir()) if path.suffix in COPIED and path.is_file()]
    kept = [path for path in kept if not path.name.startswith(".")]
    names = {path.name for path in kept}
    if component.weightless:
        is_whole, needs = bool(names & TEXTS), f"one of {', '.join(sorted(TEXTS))}"
    else:
        is_whole = "config.json" in names and any(path.suffix == ".safetensors" for path in kept)
        needs = "config.json and safetensors weights"
    if not is_whole:
        raise UnreadableModel(f"{folder}: not a {component.name} folder: it needs {needs}.")
    is_ours = (folder.parent / MARKER).is_file()
    copies = tuple(FileCopy(component.folder + path.name, path, path.stat().st_size, is_ours) for path in kept)
    return Planned(component, copies=copies)


def _layout(layouts: Sequence[Layout], header: Header) -> Layout:
    """The layout that the file has; of damaged files the one whose prefix they have."""
    for layout in layouts:
        if layout.fits(header.tensors):
            return layout
    return next((one for one in layouts if one.prefix and _below(one.prefix, header.tensors)), layouts[0])


def _below(prefix: str, tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    return {name.removeprefix(prefix): info for name, info in tensors.items() if name.startswith(prefix)}


def _averaged(stem: str, look: _Look, header: Header) -> _Look | None:
    """The averaged copy of the same tensors, whose names have lost their dots; None unless it is complete."""
    names = {name: stem + name.replace(".", "") for name in look.tensors}
    if not all(names[name] in header.tensors for name in look.needed if name in names):
        return None
    tensors = {name: header.tensors[own] for name, own in names.items() if own in header.tensors}
    return _Look(look.component, look.layout, header, tensors, look.options, names)


@dataclass
class _Look:
    """A component's tensors in one file, beside what its table says they are."""

    component: Component
    layout: Layout
    header: Header
    #: By their name without the prefix.
    tensors: Mapping[str, TensorInfo]
    options: ConvertOptions
    #: Their names in the file, where these are not the prefix and the name.
    names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.part: Part | None = None
        self.renames: tuple[Rename, ...] = ()
        self.problems = tuple(self._examine())

    def planned(self, prefix: str | None = None) -> Planned:
        used = tuple(self._full(name) for name in self.needed)
        if self.problems:
            return Planned(self.component, self.part, used=used, prefix=prefix, problems=self.problems)
        path = self.component.folder + self.component.file
        weights = WeightFile(path, self.header.path, tuple(in_order([self._run(rename) for rename in self.renames])))
        return Planned(self.component, self.part, (weights,), (), used, prefix, notes=tuple(self._widened()))

    @property
    def needed(self) -> tuple[str, ...]:
        """The names that the table asks for, each once."""
        return tuple(dict.fromkeys(rows.source for rename in self.renames for rows in rename.rows))

    def _full(self, name: str) -> str:
        return self.names.get(name, self.layout.prefix + name)

    def _examine(self) -> Iterator[str]:
        name = self.component.name
        try:
            self.part = self.layout.part.infer({name: info.shape for name, info in self.tensors.items()})
        except MissingTensorError as error:
            yield f"{name}: {self._full(error.name)}, which tells its layout, is missing or misshapen"
            return
        self.renames = tuple(self.part.renames())
        missing = [self._full(one) for one in self.needed if one not in self.tensors]
        if missing:
            yield f"{name}: {len(missing)} of {len(self.needed)} tensors are missing: {some(missing)}"
        wrong = [text for one, shape in self._expected().items() if (text := self._mistake(one, shape))]
        if wrong:
            yield f"{name}: {some(wrong)}"
        scaled = [self._full(one) for one in self.tensors if one.endswith((".scale_weight", ".weight_scale"))]
        if scaled:
            yield f"{name}: its weights are quantised with scales ({some(scaled)}), which is not converted"

    def _expected(self) -> dict[str, tuple[int, ...]]:
        return {rows.source: rows.shape for rename in self.renames for rows in rename.rows}

    def _mistake(self, name: str, shape: tuple[int, ...]) -> str:
        """What is wrong with a tensor that is there; empty when nothing is."""
        info = self.tensors.get(name)
        if info is None:
            return ""
        if not same_values(info.shape, shape):
            return f"{self._full(name)} has shape {list(info.shape)}, expected {list(shape)}"
        if info.dtype not in WIDTHS and info.dtype not in NARROW:
            return f"{self._full(name)} is stored as {info.dtype}; only {', '.join(WIDTHS)} can be rendered"
        if info.file_offset < 0:
            return f"{self._full(name)} cannot be copied: {info.reason}"
        return ""

    def _run(self, rename: Rename) -> Run:
        if not rename.rows:
            common = next((one.dtype for one in self.tensors.values() if one.dtype in WIDTHS), "F32")
            return Run(rename.target, self._wanted(common), rename.shape, (), "F32")
        pieces, stored = [], self.tensors[rename.source].dtype
        size = {**WIDTHS, **NARROW}[stored]
        for rows in rename.rows:
            start, length = rows.elements
            pieces.append((self.tensors[rows.source].file_offset + start * size, length * size))
        return Run(rename.target, self._wanted(stored), rename.shape, tuple(pieces), stored, rename.transposed)

    def _wanted(self, stored: str) -> str:
        if self.options.dtype != "keep":
            return WORDS[self.options.dtype]
        return "F16" if stored in NARROW else stored

    def _widened(self) -> Iterator[str]:
        narrow = sorted({info.dtype for info in self.tensors.values()} & NARROW.keys())
        if narrow and self.options.dtype == "keep":
            yield f"{self.component.name}: stored as {', '.join(narrow)}, written as F16 without loss"


def in_order(runs: Sequence[Run]) -> list[Run]:
    """Wide values first, so that all lie on multiples of their size; then the longest stretch of the source first.

    The new file can share blocks of the disk with the source where both lie alike in them, which the padded header
    brings about for what comes first.
    """
    stretches: list[list[Run]] = []
    for run in sorted(runs, key=lambda run: (-WIDTHS[run.dtype], not run.is_copied, run.offset)):
        last = stretches[-1][-1] if stretches else None
        if last and last.is_copied and run.is_copied and last.dtype == run.dtype and _end(last) == run.offset:
            stretches[-1].append(run)
        else:
            stretches.append([run])
    stretches.sort(key=lambda stretch: (-WIDTHS[stretch[0].dtype], -sum(run.nbytes for run in stretch)))
    return [run for stretch in stretches for run in stretch]


def _end(run: Run) -> int:
    return sum(run.pieces[-1])


def tensors_text(names: Sequence[str]) -> str:
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}"


def some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more
