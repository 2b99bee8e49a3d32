"""A family: which parts a kind of model consists of, where a single file keeps them, and the folder diffusers wants.

The families themselves are tables in modules of their own, which `families` gathers. Knows nothing of files.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invokeai_daemon.models.convert.layout import Part
from invokeai_daemon.models.header import Header
from invokeai_daemon.models.identity import Identity

#: What model_index.json says of an entry: library and class.
Loader = tuple[str | None, str | None]
#: An entry that a pipeline may have and this model has not.
ABSENT: Loader = (None, None)
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"
TRANSFORMERS_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Layout:
    """One way in which single files keep a part: under this prefix, with the names of this table."""

    prefix: str
    part: type[Part]
    #: Files with names that begin so after the prefix are something else.
    unless: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """How the names of some of its tensors begin."""
        return self.prefix + self.part.signature

    def fits(self, names: Iterable[str]) -> bool:
        """Whether a file with these names has the part in this layout."""
        others = tuple(self.prefix + other for other in self.unless)
        found = False
        for name in names:
            if others and name.startswith(others):
                return False
            found = found or name.startswith(self.stem)
        return found


def _nothing(identity: Identity, header: Header) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Component:
    """One part of a model: a folder with a config and a weight file."""

    #: Its key in model_index.json and its folder.
    name: str
    file: str
    #: Library and class that load it.
    loader: Loader
    #: In the model's own file; the first that the file has counts.
    layouts: tuple[Layout, ...]
    #: In a file of its own, such as a same-stem VAE.
    apart: tuple[Layout, ...] = ()
    #: The model is of use without it.
    optional: bool = False
    #: Only these variants have it; none named: all.
    variants: tuple[str, ...] = ()
    #: What of its config no shape tells.
    settings: Callable[[Identity, Header], Mapping[str, Any]] = _nothing
    #: How the names of the averaged copy of its weights begin, which go on without dots.
    averaged: str = ""
    #: It is the whole folder, without a pipeline around it.
    alone: bool = False
    #: A folder of texts, such as a tokenizer, that only another model's folder can give: without file and layouts.
    weightless: bool = False

    @property
    def folder(self) -> str:
        """Where it goes in the new folder, with a slash behind it if there is one."""
        return "" if self.alone else f"{self.name}/"


@dataclass(frozen=True)
class Family:
    base: str
    type: str
    components: tuple[Component, ...]
    #: diffusers' pipeline class of each variant; without any there is no model_index.json.
    pipelines: Mapping[str, str] = field(default_factory=dict)
    #: Entries of model_index.json that have no weights here.
    others: Mapping[str, Loader] = field(default_factory=dict)
    #: Further words of model_index.json, by variant; "" is for all.
    words: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: The scheduler's config, class included.
    scheduler: Callable[[Identity, Header], Mapping[str, Any]] | None = None
    #: Folders that are the same for every model, with what fills them: tokenizers.
    writers: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    #: Prefixes of tensors that such files carry and no part needs, with the word for them; without a word they
    #: are in every such file, and not worth a note.
    unused: Mapping[str, str] = field(default_factory=dict)

    def of_variant(self, variant: str | None) -> tuple[Component, ...]:
        return tuple(part for part in self.components if not part.variants or (variant or "normal") in part.variants)


def diffusers_version() -> str:
    """The version the configs are written for, read without importing diffusers."""
    return importlib.metadata.version("diffusers")
