"""What the interpreter of pickles builds instead of a stranger's objects: references, names and inert values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.formats.globals import Kind


class CutOffPickle(UnreadableModel):
    """The pickle goes on beyond the bytes that were given."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A reference to the bytes of a storage of the file."""

    #: In an archive the member `data/<key>`.
    key: str
    #: Safetensors name; empty when the tensor says it.
    dtype: str
    #: Elements, or bytes where `dtype` is empty.
    count: int
    #: Elements of the storage before the first one of this view; only files of torch before 0.4 have such views.
    start: int = 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage: offset and strides in elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the pickle asked for. It is a name; nothing was imported."""

    name: str
    kind: Kind


@dataclass(slots=True)
class Opaque:
    """A value of a class that is not built: what the pickle wanted to put into it is kept, as plain values."""

    name: str
    arguments: Any = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    #: Of a class that is not known to hold values only: nothing may be taken from it.
    is_leftover: bool = False


@dataclass(frozen=True)
class Reading:
    """What a pickle says."""

    #: None, bool, int, float, str, bytes, list, tuple, dict, `Tensor`, `Storage`, `Global` or `Opaque`.
    value: Any
    #: Every global that it names.
    globals: tuple[str, ...]
    #: Those that training left: nothing was made of them.
    leftovers: tuple[str, ...]
    #: Every storage that it refers to, by its key, as it is named first.
    storages: Mapping[str, Storage]
    #: Where it ends in the bytes that were given.
    end: int
