"""The registry: `configs/models.yaml`, which the daemon writes and people edit while it runs.

Called by the daemon, the commands and the planner of jobs. The file is read again whenever it changed. A path that
vanished makes an entry `missing`, never deletes it. Stanzas of InvokeAI 2.3 and 3 are understood. Never imports torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import ModelError, ModelMissing, Problem, UnfitModel, UnreadableModel
from invokeai_daemon.files import locked, write_atomically
from invokeai_daemon.models.entries.change import VERDICTS, Change
from invokeai_daemon.models.entries.contents import Contents, absolute, is_in_place, origin
from invokeai_daemon.models.entries.entry import FOR_PAINTING, RENDERABLE, Entry
from invokeai_daemon.models.entries.memory import Memory
from invokeai_daemon.models.entries.presence import Presence
from invokeai_daemon.models.entries.sheet import Sheet
from invokeai_daemon.models.entries.stanza import KEYS, is_older, read_entry, seen
from invokeai_daemon.models.formats.opening import opened
from invokeai_daemon.models.stanzas import MAX_BYTES, Document, Reader
from invokeai_daemon.root import Root
from invokeai_daemon.strict_toml import nearest

__all__ = ["Entry", "Registry"]

_HEADING = """\
# The models that invokeai-daemon knows, one stanza each. You may edit this file while the daemon runs:
# comments, order and keys of your own survive. Jobs name a model by its stanza's name.
"""
#: What can be rendered, in words.
_KINDS = " or ".join(RENDERABLE).replace(" or ", ", ", len(RENDERABLE) - 2)


class Registry:
    """The entries of one root's `models.yaml`."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._reader: Reader[Entry] = Reader(lambda stanza: read_entry(stanza, root.path))
        self._seen: tuple[int, int, int] | None = None
        self._contents = Contents()
        self._problems: tuple[Problem, ...] = ()
        self._presence = Presence()
        #: What `models` gave last, as long as it is true.
        self._listed: list[Entry] | None = None
        self._older: dict[str, tuple[int, Entry]] = {}

    @property
    def file(self) -> Path:
        return self._root.registry_file

    @property
    def memory_file(self) -> Path:
        """What was derived of each source; see `entries/memory.py`."""
        return self._root.state / "registry.json"

    # -- reading ---------------------------------------------------------------------------------------------------

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong in the file as it is now: line, name and reason of each stanza that is left out."""
        self._refresh()
        return self._problems

    def models(self) -> list[Entry]:
        """All entries in the order of the file, their status as the disk is now."""
        self._refresh()
        if self._presence.look() or self._listed is None:
            self._listed = [self._checked(entry, self._presence.has) for entry in self._contents]
        return list(self._listed)

    def get(self, name: str) -> Entry | None:
        """The entry of exactly this name, whatever its status."""
        self._refresh()
        entry = self._contents.entries.get(name)
        return self._checked(entry) if entry else None

    def find(self, text: str) -> Entry:
        """The entry that a person means: by name, by a unique beginning of one, by the stem of another file with the
        same content, or by (the beginning of) its hash.

        Its status may be anything; see `usable`. Raises ModelMissing, with the nearest names, when none or several fit.
        """
        return self._find(text)

    def _find(self, text: str, preferred: str = "") -> Entry:
        """The entry that is meant; of several whose names begin so, the only one of the preferred type."""
        self._refresh()
        wanted = text.strip()
        if wanted in self._contents.entries:
            return self._checked(self._contents.entries[wanted])
        fitting = self._contents.fitting(wanted)
        fitting = [entry for entry in fitting if entry.type == preferred] or fitting
        if len(fitting) == 1:
            return self._checked(fitting[0])
        raise ModelMissing(self._not_found(wanted, [entry.name for entry in fitting], preferred))

    def usable(self, text: str) -> Entry:
        """Like `find`, for a job. Also raises ModelMissing when the model cannot be rendered now, with the reason, and
        UnfitModel when it is none that can be rendered at all.
        """
        entry = self._find(text, preferred="main")
        if entry.status in ("ok", "unusable", "missing") and entry.why_unfit:
            raise UnfitModel(f"{entry.name} {entry.why_unfit}.")
        if entry.status != "ok":
            why = (entry.reason or "; ".join(entry.needs) or entry.status).rstrip(".")
            raise ModelMissing(f"The model {entry.name} cannot be used: {why}.")
        if not entry.is_renderable:
            raise ModelMissing(
                f"What {entry.name} is is not known. Say its type and base in {self.file.name}, or in a sidecar."
            )
        return entry

    def default_main(self) -> Entry:
        """The main model of a job that names none: the one marked `default: true`, else the first of the file.

        Raises ModelMissing when there is none that makes pictures from text.
        """
        mains = [entry for entry in self.models() if (entry.type, entry.status) == ("main", "ok")]
        usable = [entry for entry in mains if entry.is_renderable_from_text]
        if not usable:
            what = f"No {_KINDS} model" if mains else "No model"
            raise ModelMissing(f"{what} is registered yet. Drop one into autoimport/main/; the job starts then.")
        ordinary = next((entry for entry in usable if entry.variant not in FOR_PAINTING), usable[0])
        return next((entry for entry in usable if entry.default), ordinary)

    def of_type(self, text: str, type: str) -> list[Entry]:
        """The entries of a type that a person may mean: by name, by the stem of the file, by beginning or by hash.

        Their status may be anything.
        """
        self._refresh()
        return [self._checked(entry) for entry in self._contents.of_type(text, type)]

    def by_source(self, source: Path | str) -> Entry | None:
        """The entry that came from this file or folder, or has it as an alias."""
        self._refresh()
        entry = self._contents.by_source(absolute(source))
        return self._checked(entry) if entry else None

    def forgotten(self) -> list[str]:
        """The names of verdicts on files that the user deleted since.

        Not of those whose folder is gone too, or on another disk than when they were looked at: they come back.
        """
        self._refresh()
        gone = [entry for entry in self._contents if entry.status in VERDICTS and not os.path.lexists(origin(entry))]
        if not gone:
            return []
        memory = Memory(self.memory_file)
        return [entry.name for entry in gone if not entry.aliases and memory.is_deleted(origin(entry))]

    # -- changing --------------------------------------------------------------------------------------------------

    def add(self, entry: Entry, *, chosen: bool = False) -> str:
        """Register what was derived of a source; returns the name of its entry. See `add_many`.

        `chosen`: somebody asked for this very conversion; it stays when the source is looked at again.
        """
        with self._changing() as change:
            return change.add(entry, chosen=chosen)

    def add_many(self, entries: Iterable[Entry]) -> list[str]:
        """Register many with one write; returns the name of each one's entry. New names get a number when taken.

        An entry from the same source is renewed, keeping its name and the user's own keys and words; so is one with the
        same content whose source is gone (it was moved). Where that source is still there, the new path becomes an
        alias. A verdict on a source that was replaced by a bad file leaves the model that was converted from it before
        as it is, but for its reason. Raises ModelError when the file is broken.
        """
        with self._changing() as change:
            return [change.add(entry) for entry in entries]

    def update(self, name: str, *, derived: bool = False, **changes: Any) -> Entry:
        """Change fields of an entry. Raises ModelMissing, or ModelError when the file is broken."""
        (new,) = self.update_many({name: changes}, derived=derived)
        return self._checked(self._contents.entries[new])

    def update_many(self, changes: Mapping[str, Mapping[str, Any]], *, derived: bool = False) -> list[str]:
        """Change fields of entries, by name, with one write; returns their names.

        `derived` values are the daemon's: they do not count as the user's words. An entry whose new hash is that of a
        like one is folded into it, and has its name then.
        """
        unknown = {field for fields in changes.values() for field in fields} - {*KEYS}
        if unknown:
            raise TypeError(f"not fields of an entry: {', '.join(sorted(unknown))}")
        with self._changing() as change:
            self._require(changes, change)
            for name, fields in changes.items():
                change.update(change.name_of(name), fields, derived=derived)
            return [change.name_of(name) for name in changes]

    def rename(self, name: str, new: str) -> str:
        """Give an entry another name; returns it as it was made fit. Its files keep theirs. Raises ModelMissing."""
        with self._changing() as change:
            self._require([name], change)
            return change.rename(name, new)

    def moved(self, source: Path | str, target: Path | str) -> str | None:
        """A source has another path now; returns the name of its entry, None when there is none."""
        return self.moved_many([(source, target)])[0]

    def moved_many(self, moves: Iterable[tuple[Path | str, Path | str]]) -> list[str | None]:
        """The same for pairs of an old and a new path, with one write."""
        with self._changing() as change:
            return [change.moved(absolute(source), absolute(target)) for source, target in moves]

    def remove(self, name: str) -> Entry:
        """Take an entry out of the file; its files stay. Raises ModelMissing, or ModelError when the file is broken."""
        return self.remove_many([name])[0]

    def remove_many(self, names: Iterable[str]) -> list[Entry]:
        """Take entries out of the file with one write; their files stay."""
        names = list(names)
        with self._changing() as change:
            self._require(names, change)
            return [change.remove(name) for name in names]

    def _require(self, names: Iterable[str], change: Change) -> None:
        for name in names:
            if name not in change.contents.entries:
                raise ModelMissing(self._not_found(name, []))

    # -- the file --------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Read the file again if it changed."""
        signature = self._signature()
        if signature is None:
            self._seen, self._contents, self._problems, self._listed = None, Contents(), (), None
        elif signature != self._seen:
            document = self._document()
            self._seen = signature
            self._take(document)

    def _document(self) -> Document[Entry]:
        """What stands in the file. A pipe or a device of its name would hold the daemon for ever: it is not read."""
        try:
            with opened(self.file) as (descriptor, size):
                # One byte more than is read at most: the reader says then that it is too long.
                raw = os.pread(descriptor, min(size, MAX_BYTES + 1), 0)
        except UnreadableModel as error:
            return Document("", (), Problem(str(error)))
        return self._reader.read(raw)

    def _signature(self) -> tuple[int, int, int] | None:
        """What tells one state of the file from another; None when it is not there."""
        try:
            status = self.file.stat()
        except FileNotFoundError:
            return None
        except OSError:
            # A link that leads back to itself, say: a file that cannot be read, which `_document` says.
            status = self.file.lstat()
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _take(self, document: Document[Entry]) -> None:
        """The entries of a file. Of one that is broken somewhere those that are sound, and what the others were."""
        contents = Contents(document)
        if document.broken and not contents.entries:
            contents = self._contents
        elif document.broken:
            left_out = {piece.name for piece in document.pieces if piece.made is None}
            for name in left_out & self._contents.entries.keys() - contents.entries.keys():
                contents.put(self._contents.entries[name], self._contents.key(name))
        self._contents, self._problems, self._listed = contents, document.problems, None

    @contextmanager
    def _changing(self) -> Iterator[Change]:
        """A change of the file under its lock: read, change, check, keep a copy, replace."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.file.with_name(f".{self.file.name}.lock")):
            read = self._signature()
            document = self._document() if read else self._reader.read(_HEADING.encode())
            if document.broken:
                raise ModelError(
                    f"{self.file}: {document.broken} Correct the file; nothing was changed "
                    f"(the state before the daemon's last change is in {self.file.name}.bak)."
                )
            change = Change(self._root.path, Sheet(document), Contents(document), Memory(self.memory_file))
            yield change
            if self._signature() != read:
                raise ModelError(f"{self.file} was changed by somebody else just now; nothing was changed. Try again.")
            if read is None or change.sheet.text != document.text:
                self._write(document.text, change.sheet.text)
            change.memory.write()

    def _write(self, before: str, text: str) -> None:
        document = self._reader.read(text.encode())
        if document.broken:
            raise ModelError(f"{self.file}: the change would break the file ({document.broken}).")
        if self.file.exists():
            write_atomically(self.file.with_name(f"{self.file.name}.bak"), before, durable=False)
        write_atomically(self.file, text)
        self._take(document)
        self._seen = None

    # -- the disk --------------------------------------------------------------------------------------------------

    def _checked(self, entry: Entry, exists: Callable[[str], bool] = os.path.exists) -> Entry:
        """The entry with its status as the disk is now; used from another path with the same content if need be."""
        if entry.status not in ("ok", "unusable") or not entry.path:
            return entry
        if exists(entry.path):
            return self._as_seen(entry) if is_older(entry) else entry
        other = next((alias for alias in entry.aliases if is_in_place(entry) and exists(alias)), None)
        if other is not None:
            return replace(entry, path=other)
        return replace(entry, status="missing", reason=f"{entry.path} is not there")

    def _as_seen(self, entry: Entry) -> Entry:
        """An older entry, which leaves out what it is, with what its folder shows."""
        path = Path(entry.path)
        if not path.is_dir():
            return entry
        changed = path.stat().st_mtime_ns
        known = self._older.get(entry.path)
        if known is None or known[0] != changed:
            known = self._older[entry.path] = (changed, seen(entry))
        looked_up = known[1]
        return replace(
            entry,
            **{key: getattr(looked_up, key) for key in ("status", "reason", "type", "base", "format")},
            variant=entry.variant or looked_up.variant,
            prediction_type=entry.prediction_type or looked_up.prediction_type,
        )

    def _not_found(self, wanted: str, fitting: list[str], type: str = "") -> str:
        if fitting:
            return f"{json.dumps(wanted)} fits several models: {', '.join(fitting[:10])}. Write more of the name."
        names = [entry.name for entry in self._contents if entry.status == "ok" and type in ("", entry.type)]
        meant = nearest(wanted, names)
        if meant:
            return f"No model is called {json.dumps(wanted)}. Did you mean {json.dumps(meant)}?"
        known = f"Known are {', '.join(names[:10])}." if names else f"No {type} model is registered.".replace("  ", " ")
        return f"No model is called {json.dumps(wanted)}. {known} Drop one into autoimport/."
