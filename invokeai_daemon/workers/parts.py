"""Parts: which models of this machine meet the needs of another one. Called by the importer for models with needs.

A part that is missing makes a model unusable, not unknown: it is looked at again when one of that type arrives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from invokeai_daemon.models.identity import Identity, Need
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root

#: Base -> type and variant of a part -> its name in model_index.json.
COMPONENTS: Mapping[str, Mapping[tuple[str, str | None], str]] = {
    "sd-1": {("clip_embed", "large"): "text_encoder"},
    "sd-2": {("clip_embed", None): "text_encoder"},
    "sdxl": {("clip_embed", "large"): "text_encoder", ("clip_embed", "gigantic"): "text_encoder_2"},
    "sdxl-refiner": {("clip_embed", "gigantic"): "text_encoder_2"},
    "sd-3": {
        ("clip_embed", "large"): "text_encoder",
        ("clip_embed", "gigantic"): "text_encoder_2",
        ("t5_encoder", None): "text_encoder_3",
    },
    "flux": {("clip_embed", "large"): "text_encoder", ("t5_encoder", None): "text_encoder_2"},
}


def met(identity: Identity, root: Root) -> dict[Need, Path]:
    """The needs of a model that other models of this root meet, each with the file or folder that does."""
    if not identity.needs:
        return {}
    entries = [entry for entry in Registry(root).models() if entry.status == "ok" and entry.path]
    found = ((need, next(_fitting(need, entries), None)) for need in identity.needs)
    return {need: Path(entry.path) for need, entry in found if entry is not None}


def components(identity: Identity, found: Mapping[Need, Path]) -> dict[str, Path]:
    """The same by the name that the part has in the folder of the model."""
    return {name: path for need, path in found.items() if (name := _component(identity.base, need)) is not None}


def _fitting(need: Need, entries: Iterable[Entry]) -> Iterator[Entry]:
    return (
        entry
        for entry in entries
        if entry.type == need.type
        and (need.base == "any" or entry.base in (need.base, "any"))
        and need.variant in (None, entry.variant)
    )


def _component(base: str, need: Need) -> str | None:
    if need.type == "vae":
        return "vae"
    names = COMPONENTS.get(base, {})
    return names.get((need.type, need.variant)) or names.get((need.type, None))
