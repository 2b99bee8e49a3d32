"""Parts: which models of this machine meet the needs of another one. Called by the importer for models with needs.

A part that is missing makes a model unusable, not unknown: it is looked at again when one of that type arrives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from invokeai_daemon.models.convert.flow import T5_WORDS
from invokeai_daemon.models.identity import Identity, Need
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root

#: Base -> type and variant of a part -> its name in model_index.json.
COMPONENTS: Mapping[str, Mapping[tuple[str, str | None], str]] = {
    "sd-1": {("clip_embed", "large"): "text_encoder"},
    "sd-2": {("clip_embed", None): "text_encoder"},
    "sdxl": {("clip_embed", "large"): "text_encoder", ("clip_embed", "gigantic"): "text_encoder_2"},
    "sdxl-refiner": {("clip_embed", "gigantic"): "text_encoder_2"},
    "sd-3": {("clip_embed", "large"): "text_encoder", ("clip_embed", "gigantic"): "text_encoder_2"},
    "flux": {("clip_embed", "large"): "text_encoder", ("t5_encoder", None): "text_encoder_2"},
}
#: Bases whose models all have the same text encoders, so that one can have those of another. SD-1's are trained along.
SHARED = ("flux", "sd-3")


@dataclass(frozen=True)
class WithT5:
    """Where a model has T5-XXL and its tokenizer, whose words are in no weight file."""

    encoder: str
    tokenizer: str
    is_required: bool


T5: Mapping[str, WithT5] = {
    "flux": WithT5("text_encoder_2", "tokenizer_2", is_required=True),
    "sd-3": WithT5("text_encoder_3", "tokenizer_3", is_required=False),
}
#: Where it lies in folders with a T5: those of diffusers models, and of the encoder alone.
TOKENIZER_FOLDERS = ("tokenizer_2", "tokenizer_3", "tokenizer", "")
NO_TOKENIZER = (
    "the tokenizer of T5-XXL is in no weight file: put a folder `tokenizer_2` (of any FLUX.1 repository, or the "
    "tokenizer.json of google/t5-v1_1-xxl) beside the T5 file"
)


@dataclass(frozen=True)
class Parts:
    """What a model gets from other models."""

    #: By the part's name in model_index.json: a weight file, or a folder as diffusers has it.
    found: Mapping[str, Path] = field(default_factory=dict)
    #: What is in the way, and what to do: sentences.
    missing: tuple[str, ...] = ()


def parts_for(identity: Identity, root: Root, own: Collection[str] = (), *, is_file: bool = True) -> Parts:
    """The parts that a model does not bring along, as far as other models of this root have them.

    `own` names parts that it has beside it. A folder may hold a tokenizer, a weight file cannot.
    """
    needs = {_component(identity.base, need): need for need in identity.needs}
    t5 = T5.get(identity.base) if is_file and identity.type == "main" else None
    if needs.keys() <= {*own} and t5 is None:
        return Parts()
    entries = [entry for entry in Registry(root).models() if entry.status == "ok" and entry.path]
    places = {name: _place(need, identity.base, entries) for name, need in needs.items() if name not in own}
    found = {name: path for name, path in places.items() if path is not None}
    missing = [needs[name].why for name, path in places.items() if path is None]
    if t5 is not None:
        more, lacking = _t5(t5, identity, entries)
        found, missing = {**more, **found}, missing + lacking
    return Parts(found, tuple(missing))


def _place(need: Need, base: str, entries: Sequence[Entry]) -> Path | None:
    """Where a part lies: in another converted model, whose files can be shared, or as a model of its own."""
    shared = _of_mains(base, _component(base, need), entries) if base in SHARED else iter(())
    return next(chain(shared, (Path(entry.path) for entry in entries if _fits(entry, need))), None)


def _of_mains(base: str, component: str, entries: Iterable[Entry]) -> Iterator[Path]:
    for entry in entries:
        folder = Path(entry.path) / component
        if (entry.type, entry.base, entry.format) == ("main", base, "diffusers") and folder.is_dir():
            yield folder


def _fits(entry: Entry, need: Need) -> bool:
    return (
        entry.type == need.type
        and (need.base == "any" or entry.base in (need.base, "any"))
        and need.variant in (None, entry.variant)
    )


def _component(base: str, need: Need) -> str:
    """The name in model_index.json of the part that is needed."""
    if need.type == "vae":
        return "vae"
    names = COMPONENTS.get(base, {})
    return names.get((need.type, need.variant)) or names.get((need.type, None)) or need.type


def _t5(wanted: WithT5, identity: Identity, entries: Sequence[Entry]) -> tuple[dict[str, Path], list[str]]:
    """The tokenizer, and the encoder where it is not required but here, and what is missing."""
    encoders = [Path(entry.path) for entry in entries if entry.type == "t5_encoder"]
    shared = [*_of_mains(identity.base, wanted.encoder, entries), *encoders]
    tokenizer = next(_tokenizers(encoders, [Path(entry.path) for entry in entries if entry.base in T5]), None)
    if wanted.is_required:
        return ({wanted.tokenizer: tokenizer}, []) if tokenizer else ({}, [NO_TOKENIZER])
    if tokenizer is None or not shared:
        return {}, []
    return {wanted.tokenizer: tokenizer, wanted.encoder: shared[0]}, []


def _tokenizers(encoders: Iterable[Path], mains: Iterable[Path]) -> Iterator[Path]:
    """Folders with a tokenizer of T5: in or beside a T5 encoder, and in models that have one."""
    near = [path if path.is_dir() else path.parent for path in encoders]
    for folder in (*near, *(path.parent for path in near), *mains):
        for name in TOKENIZER_FOLDERS:
            candidate = folder / name
            if any((candidate / file).is_file() for file in T5_WORDS) and _is_t5(candidate):
                yield candidate


def _is_t5(folder: Path) -> bool:
    """Whether a tokenizer is one of T5, not one of CLIP, which has a list of merges."""
    return (folder / "spiece.model").is_file() or not (folder / "merges.txt").is_file()
