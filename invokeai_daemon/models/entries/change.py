"""Change: what happens to the entries of `models.yaml` in one write: what is new, known, moved, a duplicate, gone.

Made and written by the registry, under its lock. The same content again is another path of the same model; a source
that moved keeps its entry; new content in the place of old is the same model, changed. The user's words stay.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from invokeai_daemon.models.companions import companions_of
from invokeai_daemon.models.entries.contents import Contents, absolute, is_in_place, origin, sources_of
from invokeai_daemon.models.entries.entry import Entry
from invokeai_daemon.models.entries.memory import (
    Memory,
    fingerprint_of,
    is_as_derived,
    with_users_words,
)
from invokeai_daemon.models.entries.sheet import Sheet
from invokeai_daemon.models.entries.stanza import KEYS, NOT_MODELS, values_of

#: Statuses of files that became no model.
VERDICTS = ("unusable", "unknown", "rejected")


class Change:
    """Entries on their way into the file: `contents` says what is there, `sheet` is the text that becomes the file."""

    def __init__(self, root: Path, sheet: Sheet, contents: Contents, memory: Memory) -> None:
        self._root = root
        self.sheet, self.contents, self.memory = sheet, contents, memory
        self._taken = {name.casefold() for name in [*contents.entries, *sheet.names]}
        #: Entries that turned out to be others.
        self._folded: dict[str, str] = {}
        self._by_hash: dict[str, list[str]] = {}
        for entry in contents:
            if entry.hash:
                self._by_hash.setdefault(entry.hash, []).append(entry.name)

    def name_of(self, name: str) -> str:
        """The name of the entry that one of this name became, where it was folded into another."""
        while name in self._folded:
            name = self._folded[name]
        return name

    # -- one entry ---------------------------------------------------------------------------------------------------

    def add(self, entry: Entry, *, chosen: bool = False) -> str:
        """Take in what was derived of a source; returns the name of its entry.

        `chosen`: somebody asked for this very conversion; it stays when the source is looked at again.
        """
        entry = replace(entry, path=entry.path and absolute(entry.path), source=entry.source and absolute(entry.source))
        fingerprint = fingerprint_of(entry.source) if entry.source else ""
        old = self.contents.by_source(entry.source) if entry.source else None
        if old is not None and origin(old) != entry.source:
            if self._is_same_content(entry, old, fingerprint):
                return old.name
            self._drop_alias(old, entry.source)
            old = None
        if old is None:
            old = self._twin(entry, fingerprint)
            if old is not None and os.path.lexists(origin(old)):
                return self._take_alias(old, entry.source, fingerprint)
        if old is None:
            return self._append(entry, fingerprint)
        return self._renew(old, entry, fingerprint, chosen)

    def update(self, name: str, changes: Mapping[str, Any], *, derived: bool = False) -> None:
        """Give fields of an entry other values; with the hash of another entry the two become one."""
        old = self.contents.entries[name]
        entry = replace(old, **changes)
        if changes.get("default"):
            for other in list(self.contents):
                if other.default and other.name != name:
                    self._replace(other, replace(other, default=False))
        self._replace(old, entry)
        if derived:
            self.memory.derive(origin(entry), dict(changes))
        if entry.hash and "hash" in changes:
            self._fold_twins(entry)

    def rename(self, name: str, wanted: str) -> str:
        """Give an entry another name, made fit for one and numbered when taken."""
        entry = self.contents.entries[name]
        self._taken.discard(name.casefold())
        new = self._free_name(wanted)
        if new != name:
            key = self.contents.key(name)
            # InvokeAI 3 has "sd-1/main/cat" for cat.
            new_key = key.removesuffix(name) + new if key.endswith(f"/{name}") else new
            self.sheet.rename(key, new_key)
            self._unlist(entry)
            self.contents.rename(name, new, new_key)
            self._list(self.contents.entries[new])
        self._taken.add(new.casefold())
        return new

    def remove(self, name: str) -> Entry:
        entry = self.contents.entries[name]
        self.sheet.remove(self.contents.key(name))
        self._unlist(entry)
        self.contents.drop(name)
        self._taken.discard(name.casefold())
        for source in sources_of(entry):
            self.memory.forget(source)
        return entry

    def moved(self, source: str, target: str) -> str | None:
        """A file has another path now, and was not looked at again. None when no entry came from it."""
        entry = self.contents.by_source(source)
        if entry is None:
            return None
        self.memory.move(source, target)
        if origin(entry) != source:
            aliases = tuple(target if alias == source else alias for alias in entry.aliases)
            self._replace(entry, replace(entry, aliases=aliases))
            return entry.name
        preview = companions_of(Path(target)).preview
        was_beside = entry.cover_image.startswith(f"{Path(source).parent}{os.sep}")
        self._replace(
            entry,
            replace(
                entry,
                source=target,
                path=target if is_in_place(entry) else entry.path,
                cover_image=str(preview or "") if was_beside else entry.cover_image,
            ),
        )
        return entry.name

    # -- who it is ---------------------------------------------------------------------------------------------------

    def _is_same_content(self, entry: Entry, old: Entry, fingerprint: str) -> bool:
        """Whether the alias that is looked at again still has the content of its model."""
        if entry.hash and old.hash:
            return entry.hash == old.hash and _are_alike(entry, old)
        return bool(fingerprint) and self.memory.fingerprint(entry.source) == fingerprint and _are_alike(entry, old)

    def _twin(self, entry: Entry, fingerprint: str) -> Entry | None:
        """An entry with the same content from another place: one whose source is gone, or a like one."""
        names = [*self._by_hash.get(entry.hash, [])] if entry.hash else []
        source = self.memory.source_of(fingerprint)
        known = self.contents.by_source(source) if source and source != entry.source else None
        twins = [self.contents.entries[name] for name in names] + ([known] if known and not (names) else [])
        for twin in twins:
            if not os.path.lexists(origin(twin)):
                return twin
        return next((twin for twin in twins if _are_alike(twin, entry)), None)

    # -- what becomes of it --------------------------------------------------------------------------------------------

    def _append(self, entry: Entry, fingerprint: str) -> str:
        name = self._free_name(entry.name)
        self._taken.add(name.casefold())
        named = replace(entry, name=name)
        self.sheet.add(name, values_of(named, self._root))
        self.contents.put(named)
        self._list(named)
        if entry.source:
            self.memory.remember(entry, name, fingerprint)
        return name

    def _renew(self, old: Entry, entry: Entry, fingerprint: str, chosen: bool) -> str:
        """Another state of a known model: its source changed, moved, or was looked at again."""
        is_its_own = origin(old) == entry.source
        if entry.status != "ok" and is_its_own and _is_converted(old):
            # What was converted before stays usable.
            why = f"its source was replaced, and the new file cannot be used: {entry.reason}"
            self._replace(old, replace(old, reason=why))
            return old.name
        note = self.memory.note(origin(old))
        if not entry.cover_image and entry.hash and entry.hash == old.hash:
            # A test picture of the same bytes is still one.
            entry = replace(entry, cover_image=old.cover_image)
        is_same_file = bool(fingerprint) and self.memory.fingerprint(origin(old)) == fingerprint
        aliases = [alias for alias in old.aliases if alias != entry.source]
        if is_its_own and not is_same_file and (not entry.hash or entry.hash != old.hash):
            self._release(old, aliases)
            aliases = []
        elif not is_its_own:
            if not self.memory.is_deleted(origin(old)):
                aliases.append(origin(old))
            self.memory.forget(origin(old))
        renewed = replace(entry, name=old.name, aliases=tuple(aliases))
        if is_same_file and not entry.hash:
            renewed = replace(renewed, hash=old.hash)
        usual = note.get("path") if note and entry.hash and entry.hash == old.hash else None
        if not chosen and entry.path == usual and _is_converted(old):
            renewed = replace(renewed, path=old.path)
        self._replace(self.contents.entries[old.name], with_users_words(renewed, old, note))
        name = old.name
        if is_its_own and note and note.get("name") == name and note.get("wanted") != entry.name:
            # Its sidecar names it anew.
            name = self.rename(name, entry.name)
        self.memory.remember(replace(entry, path=usual) if chosen and usual else entry, name, fingerprint)
        return name

    def _release(self, old: Entry, aliases: list[str]) -> None:
        """The source of a model has other content now; the other paths still have the old one: a model of their own."""
        if not aliases:
            return
        self._replace(old, replace(old, aliases=()))
        first, *others = aliases
        freed = replace(
            old,
            name=Path(first).stem,
            source=first,
            path=first if is_in_place(old) else old.path,
            aliases=tuple(others),
            default=False,
        )
        self._append(freed, self.memory.fingerprint(first))

    def _take_alias(self, old: Entry, source: str, fingerprint: str) -> str:
        if source not in old.aliases:
            self._replace(old, replace(old, aliases=(*old.aliases, source)))
        self.memory.remember_alias(source, fingerprint)
        return old.name

    def _drop_alias(self, old: Entry, source: str) -> None:
        self._replace(old, replace(old, aliases=tuple(alias for alias in old.aliases if alias != source)))
        self.memory.forget(source)

    def _fold_twins(self, entry: Entry) -> None:
        """Fold entries that turned out to have the same content into the first, unless the user edited both."""
        twins = [self.contents.entries[name] for name in self._by_hash.get(entry.hash, [])]
        twin = next((one for one in twins if one.name != entry.name and _are_alike(one, entry)), None)
        if twin is None:
            return
        order = list(self.contents.entries)
        first, second = sorted((entry, twin), key=lambda one: order.index(one.name))
        if self._is_touched(second):
            first, second = second, first
        if self._is_touched(second):
            return
        self.remove(second.name)
        self._folded[second.name] = first.name
        self._replace(first, replace(first, aliases=(*first.aliases, *sources_of(second))))
        for source in sources_of(second):
            self.memory.remember_alias(source, fingerprint_of(source))

    def _is_touched(self, entry: Entry) -> bool:
        """Whether the user wrote anything into a stanza."""
        untouched = is_as_derived(entry, self.memory.note(origin(entry))) and not entry.default
        return not (untouched and self.sheet.is_as_written(self.contents.key(entry.name), KEYS))

    def _replace(self, old: Entry, entry: Entry) -> None:
        """Write what differs between two states of an entry."""
        before, after = values_of(old, self._root), values_of(entry, self._root)
        changes = {key: value for key, value in after.items() if value != before[key]}
        if changes:
            self.sheet.change(self.contents.key(old.name), changes)
        self._unlist(old)
        self.contents.put(entry)
        self._list(entry)

    def _list(self, entry: Entry) -> None:
        if entry.hash:
            self._by_hash.setdefault(entry.hash, []).append(entry.name)

    def _unlist(self, entry: Entry) -> None:
        if entry.hash and entry.name in self._by_hash.get(entry.hash, ()):
            self._by_hash[entry.hash].remove(entry.name)

    def _free_name(self, wanted: str) -> str:
        """A name fit for a stanza that no other entry has, whatever its capitals."""
        name = "".join(character if character.isprintable() else "_" for character in wanted).strip() or "model"
        if name in NOT_MODELS:
            name = f"{name}-1"
        number, free = 1, name
        while free.casefold() in self._taken:
            number += 1
            free = f"{name}-{number}"
        return free


def _are_alike(one: Entry, other: Entry) -> bool:
    """Whether two entries of one content are one model: a sidecar or a companion may have made them two."""
    if one.status != "ok" and _told(one) != _told(other):
        # Equal weights may be of no use for different reasons: each path says its own.
        return False
    same_kind = (one.type, one.base, one.variant, one.status) == (other.type, other.base, other.variant, other.status)
    return same_kind and (one.path == other.path or (is_in_place(one) and is_in_place(other)))


def _told(entry: Entry) -> str:
    """Its reason, without the path that it begins with."""
    return entry.reason.replace(origin(entry), "")


def _is_converted(entry: Entry) -> bool:
    """Whether it can be used whatever became of its source."""
    return entry.status == "ok" and not is_in_place(entry) and Path(entry.path).exists()
