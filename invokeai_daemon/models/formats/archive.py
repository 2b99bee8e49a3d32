"""Archives of torch: where the members of a zip lie; a zip that two readers could understand differently is refused.

Called by `torch_zip` and `settled`. Only the directory and the local headers are read, never the members' bytes (but
`Archive.read` of one small member). A member is stored, once, whole, alone on its bytes, under a plain name. Whoever
reads the whole file anyway compares the checksums of its members on the way (`Checksums`).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from invokeai_daemon.errors import UnreadableModel

MAX_DIRECTORY = 32 * 1024 * 1024
MAX_MEMBERS = 100_000

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_DIRECTORY_RECORD = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL_RECORD = struct.Struct("<4s2B4HL2L2H")

#: Flag bits that say nothing about reading: sizes follow the data, the name is UTF-8.
_HARMLESS_FLAGS = 0x0808
#: What the short end record says where the zip64 one must be read: members here, members, length, start.
_SATURATED = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)


@dataclass(frozen=True)
class Member:
    """One file of an archive, its bytes as they lie in it."""

    name: str
    #: Absolute offset of its first byte in the archive.
    offset: int
    #: Bytes.
    size: int
    crc: int


@dataclass(frozen=True)
class _Record:
    """One line of the directory."""

    name: bytes
    size: int
    crc: int
    local: int


@dataclass(frozen=True)
class Archive:
    """The members of a checked archive, by name."""

    descriptor: int
    where: str
    members: dict[str, Member]

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of one member. Raises UnreadableModel when it is longer than `limit` or its checksum is wrong."""
        member = self.members[name]
        if member.size > limit:
            raise UnreadableModel(f"{self.where}: {name} has {member.size:,} bytes; at most {limit:,} are read.")
        raw = os.pread(self.descriptor, member.size, member.offset)
        if len(raw) != member.size or zlib.crc32(raw) != member.crc:
            raise _damaged(self.where, member)
        return raw


class Checksums:
    """Compares the checksums of an archive's members while its bytes go by, from the first to the last."""

    def __init__(self, where: str, archive: Archive) -> None:
        self.where = where
        self._members = sorted(archive.members.values(), key=lambda member: member.offset)
        self._place = 0
        self._position = 0
        self._crc = 0

    def feed(self, piece: bytes | bytearray | memoryview) -> None:
        """The next bytes of the file. Raises UnreadableModel at the end of a member that is damaged."""
        view, start = memoryview(piece), self._position
        self._position += len(view)
        while self._place < len(self._members):
            member = self._members[self._place]
            end = member.offset + member.size
            self._crc = zlib.crc32(view[max(0, member.offset - start) : max(0, end - start)], self._crc)
            if end > self._position:
                return
            if self._crc != member.crc:
                raise _damaged(self.where, member)
            self._place, self._crc = self._place + 1, 0

    def finish(self) -> None:
        """No more bytes come. Raises UnreadableModel when members are missing."""
        if self._place < len(self._members):
            raise _damaged(self.where, self._members[self._place])


def _damaged(where: str, member: Member) -> UnreadableModel:
    if member.crc:
        return UnreadableModel(f"{where}: {member.name} is damaged (its checksum is wrong). Copy the file again.")
    return UnreadableModel(
        f"{where}: {member.name} is damaged, or torch was told to save it without checksums. Copy the file again, or "
        "save it again with checksums."
    )


def read_archive(descriptor: int, where: str) -> Archive:
    """The members of the archive open on `descriptor`; `where` names it in messages. Raises UnreadableModel."""
    size = os.fstat(descriptor).st_size
    records = list(read_directory(descriptor, where))
    members: dict[str, Member] = {}
    end = 0
    for record in sorted(records, key=lambda record: record.local):
        if record.local < end:
            raise _refused(where, f"two members lie on the same bytes ({_shown(record.name)})")
        member = _member(descriptor, where, record)
        end = member.offset + member.size
        if end > size:
            raise _refused(where, f"{member.name} reaches beyond the end of the file")
        if member.name in members:
            raise _refused(where, f"it has two members called {member.name}")
        members[member.name] = member
    if records and min(record.local for record in records) != 0:
        raise _refused(where, "bytes stand before its first member")
    return Archive(descriptor, where, members)


def ends_like_a_zip(descriptor: int, size: int) -> bool:
    """Whether the file ends with the end record of an archive, so that nothing of it is still to come."""
    return os.pread(descriptor, 4, max(0, size - _END.size)) == b"PK\x05\x06"


def read_directory(descriptor: int, where: str, most: int = MAX_DIRECTORY) -> Iterator[_Record]:
    """The lines of the archive's directory, found from its end; of at most `most` bytes. Raises UnreadableModel."""
    count, length, start = _end(descriptor, os.fstat(descriptor).st_size, where)
    if length > most or count > MAX_MEMBERS:
        raise _refused(where, f"its directory is absurd ({count:,} members, {length:,} bytes)")
    raw = os.pread(descriptor, length, start)
    at = 0
    for _ in range(count):
        record, at = _directory_record(raw, at, where)
        yield record
    if at != length:
        raise _refused(where, "its directory has bytes that belong to no member")


def _end(descriptor: int, size: int, where: str) -> tuple[int, int, int]:
    """Number of members, length and start of the directory, from the end record; that record ends the file."""
    tail_start = max(0, size - _END.size)
    fields = _unpack(_END, os.pread(descriptor, _END.size, tail_start), 0, where)
    if fields[0] != b"PK\x05\x06" or fields[7] != 0:
        raise UnreadableModel(
            f"{where}: a zip archive whose end is missing or followed by other bytes. "
            "It is still being copied, was cut off, or has something appended: copy it again."
        )
    _, disk, _, here, count, length, start, _ = fields
    seen, end = (here, count, length, start), tail_start
    if os.pread(descriptor, 4, max(0, tail_start - _END64_LOCATOR.size)) == b"PK\x06\x07":
        *wide, end = _end64(descriptor, tail_start, where)
        # A reader that knows no zip64 must see the same archive, or values that say "look elsewhere".
        if any(short not in (long, full) for short, long, full in zip(seen, wide, _SATURATED, strict=True)):
            raise _refused(where, "its two end records disagree")
        seen = (wide[0], wide[1], wide[2], wide[3])
    here, count, length, start = seen
    if disk not in (0, 0xFFFF) or here != count:
        raise _refused(where, "it is one part of several")
    if start + length != end:
        raise _refused(where, "its directory does not stand where its end record says")
    return count, length, start


def _end64(descriptor: int, end: int, where: str) -> tuple[int, int, int, int, int]:
    locator = _unpack(_END64_LOCATOR, os.pread(descriptor, _END64_LOCATOR.size, max(0, end - 20)), 0, where)
    place = locator[2]
    if locator[0] != b"PK\x06\x07" or place + _END64.size != end - _END64_LOCATOR.size:
        raise _refused(where, "its zip64 end record is not where it should be")
    fields = _unpack(_END64, os.pread(descriptor, _END64.size, place), 0, where)
    if fields[0] != b"PK\x06\x06":
        raise _refused(where, "its zip64 end record is damaged")
    return fields[6], fields[7], fields[8], fields[9], place


def _directory_record(raw: bytes, at: int, where: str) -> tuple[_Record, int]:
    fields = _unpack(_DIRECTORY_RECORD, raw, at, where)
    signature, flags, method = fields[0], fields[5], fields[6]
    crc, packed, size, name_length, extra_length, comment_length = fields[9:15]
    disk, local = fields[15], fields[18]
    if signature != b"PK\x01\x02":
        raise _refused(where, "its directory is damaged")
    at += _DIRECTORY_RECORD.size
    name = raw[at : at + name_length]
    extra = raw[at + name_length : at + name_length + extra_length]
    size, packed, local = _large(extra, (size, packed, local), where)
    _check(where, name, flags, method)
    if packed != size or disk != 0:
        raise _refused(where, f"{_shown(name)} is not stored as it is")
    return _Record(name, size, crc, local), at + name_length + extra_length + comment_length


def _large(extra: bytes, values: tuple[int, int, int], where: str) -> tuple[int, int, int]:
    """Sizes and offset beyond 4 GB stand in the zip64 field; each only where the short one says so."""
    if 0xFFFFFFFF not in values:
        return values
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4) if at + 4 + length <= len(extra) else ())
            size, packed, local = (next(wide, -1) if value == 0xFFFFFFFF else value for value in values)
            if min(size, packed, local) >= 0:
                return size, packed, local
        at += 4 + length
    raise _refused(where, "a member beyond 4 GB has no zip64 field")


def _member(descriptor: int, where: str, record: _Record) -> Member:
    """The member of a directory line; its local header must agree."""
    raw = os.pread(descriptor, _LOCAL_RECORD.size + len(record.name), record.local)
    fields = _unpack(_LOCAL_RECORD, raw, 0, where)
    signature, flags, method = fields[0], fields[3], fields[4]
    crc, packed, size, name_length, extra_length = fields[7:12]
    name = raw[_LOCAL_RECORD.size :]
    if signature != b"PK\x03\x04" or name_length != len(record.name) or name != record.name:
        raise _refused(where, f"its directory and its members disagree about {_shown(record.name)}")
    _check(where, name, flags, method)
    if not flags & 0x8 and not (
        crc == record.crc and size in (record.size, 0xFFFFFFFF) and packed in (record.size, 0xFFFFFFFF)
    ):
        raise _refused(where, f"its directory and its members disagree about {_shown(name)}")
    offset = record.local + _LOCAL_RECORD.size + name_length + extra_length
    return Member(name.decode("utf-8"), offset, record.size, record.crc)


def _check(where: str, name: bytes, flags: int, method: int) -> None:
    if flags & 0x1 or flags & 0x2040:
        raise _refused(where, f"{_shown(name)} is marked as encrypted")
    if flags & ~_HARMLESS_FLAGS:
        raise _refused(where, f"{_shown(name)} has unusual flags ({flags:#06x})")
    if method != 0:
        raise _refused(where, f"{_shown(name)} is compressed; torch stores members as they are")
    try:
        parts = name.decode("utf-8").split("/")
    except UnicodeDecodeError:
        raise _refused(where, f"{_shown(name)} is not a name") from None
    if not name or b"\\" in name or b"\0" in name or parts[0] in ("", ".") or ".." in parts or ":" in parts[0]:
        raise _refused(where, f"a member has the unsafe name {_shown(name)}")


def _unpack(form: struct.Struct, raw: bytes, at: int, where: str) -> tuple[Any, ...]:
    try:
        return form.unpack_from(raw, at)
    except struct.error:
        raise UnreadableModel(f"{where}: a zip archive that is cut off. Copy the file again.") from None


def _shown(name: bytes) -> str:
    return ascii(name.decode("utf-8", "replace"))[:120]


def _refused(where: str, why: str) -> UnreadableModel:
    return UnreadableModel(f"{where}: an archive that torch would not have written: {why}. Get the model again.")
