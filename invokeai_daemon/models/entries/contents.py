"""Contents: the entries of a registry file, found by name and by where they came from. Made by the registry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from invokeai_daemon.models.entries.entry import Entry
from invokeai_daemon.models.entries.stanza import NOT_MODELS
from invokeai_daemon.models.stanzas import Document

#: Ends of names that are the file's, not the model's.
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
#: Shorter pieces of a hash are more likely a mistyped name.
MIN_HASH_DIGITS = 6


class Contents:
    """Entries in the order of the file, with the indexes that 5,000 of them need."""

    def __init__(self, document: Document[Entry] | None = None) -> None:
        self.entries: dict[str, Entry] = {}
        #: The stanza of an entry, where its name is another one.
        self._keys: dict[str, str] = {}
        self._by_source: dict[str, str] = {}
        for piece in document.pieces if document else ():
            if piece.made is None or piece.name in NOT_MODELS:
                continue
            entry = piece.made
            if entry.name in self.entries:
                entry = replace(entry, name=piece.name)
            self.put(entry, piece.name)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def key(self, name: str) -> str:
        """The stanza that an entry stands in."""
        return self._keys.get(name, name)

    def put(self, entry: Entry, key: str = "") -> None:
        """A new entry, or another state of one."""
        old = self.entries.get(entry.name)
        if old is not None:
            self._forget_sources(old)
        self.entries[entry.name] = entry
        if key and key != entry.name:
            self._keys[entry.name] = key
        for source in sources_of(entry):
            self._by_source.setdefault(source, entry.name)

    def drop(self, name: str) -> None:
        self._forget_sources(self.entries.pop(name))
        self._keys.pop(name, None)

    def rename(self, name: str, new: str, key: str) -> None:
        """Give an entry another name and stanza; it keeps its place."""
        entry = replace(self.entries[name], name=new)
        self._forget_sources(self.entries[name])
        self.entries = {one.name: one for one in (entry if one.name == name else one for one in self)}
        self._keys.pop(name, None)
        self.put(entry, key)

    def _forget_sources(self, entry: Entry) -> None:
        for source in sources_of(entry):
            if self._by_source.get(source) == entry.name:
                del self._by_source[source]

    def by_source(self, source: str) -> Entry | None:
        """The entry that came from this file or folder, or that has it as an alias."""
        name = self._by_source.get(source)
        return self.entries[name] if name is not None else None

    def fitting(self, wanted: str) -> list[Entry]:
        """The entries that a text names: in other capitals, else by beginning, else by an alias, else by hash."""
        if not wanted:
            return []
        folded = wanted.casefold()
        digits = folded.removeprefix("blake3:")
        if len(digits) < MIN_HASH_DIGITS:
            digits = "-"
        return (
            [entry for entry in self if entry.name.casefold() == folded]
            or [entry for entry in self if entry.name.casefold().startswith(folded)]
            or [entry for entry in self if any(Path(alias).stem.casefold() == folded for alias in entry.aliases)]
            or [entry for entry in self if entry.hash.removeprefix("blake3:").startswith(digits)]
        )

    def of_type(self, wanted: str, type: str) -> list[Entry]:
        """The entries of a type that a text names: by name, else by the stem of the file, by beginning, by hash."""
        folded = wanted.strip().casefold()
        bare = folded.removesuffix(next((end for end in SUFFIXES if folded.endswith(end)), ""))
        digits = folded.removeprefix("blake3:")
        among = [entry for entry in self if entry.type == type]
        tests: list[Callable[[Entry], bool]] = [
            lambda entry: entry.name == wanted.strip(),
            lambda entry: entry.name.casefold() in (folded, bare),
            lambda entry: any(_stem(source) == bare for source in sources_of(entry)),
            lambda entry: entry.name.casefold().startswith(bare),
            lambda entry: len(digits) >= MIN_HASH_DIGITS and entry.hash.removeprefix("blake3:").startswith(digits),
        ]
        found = ([entry for entry in among if test(entry)] for test in tests)
        return next((entries for entries in found if entries), []) if bare else []


def _stem(source: str) -> str:
    """The name of a file or folder without the ends that weight files have, in small letters."""
    name = Path(source).name.casefold()
    return name.removesuffix(next((end for end in SUFFIXES if name.endswith(end)), ""))


def origin(entry: Entry) -> str:
    """The file or folder that an entry is about: its source, or its path where it was written by hand without one."""
    return entry.source or entry.path


def sources_of(entry: Entry) -> Iterable[str]:
    """All files or folders that have the content of an entry."""
    return (origin(entry), *entry.aliases) if origin(entry) else entry.aliases


def is_in_place(entry: Entry) -> bool:
    """Whether it is used where the user put it, without a copy of the daemon's own."""
    return entry.path == origin(entry)


def absolute(path: Path | str) -> str:
    """An absolute path without "..", its symlinks as they are."""
    return os.path.normpath(Path(path).absolute())
