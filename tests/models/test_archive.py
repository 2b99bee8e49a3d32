"""An archive that two readers could understand differently is refused, with a reason; torch's own are read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.formats.archive import Archive, read_archive
from tests.models.build import Entry, write_zip


def members_of(path: Path) -> Archive:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return read_archive(descriptor, path.name)
    finally:
        os.close(descriptor)


GOOD = (Entry("a/data.pkl", b"pickle"), Entry("a/data/0", b"12345678"), Entry("a/version", b"3\n"))


def test_members_are_found_where_their_bytes_lie(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.ckpt", GOOD)
    raw = path.read_bytes()
    found = members_of(path).members
    assert {name: raw[m.offset : m.offset + m.size] for name, m in found.items()} == {
        entry.name: entry.content for entry in GOOD
    }


def test_an_archive_of_pythons_own_writer_is_read_when_it_is_stored(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/data.pkl", b"pickle")
    assert members_of(tmp_path / "x.zip").members["a/data.pkl"].size == 6


def test_members_beyond_4_gb_are_found_by_their_zip64_fields(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.ckpt", [Entry("a/data/0", hole=5 << 30), Entry("a/data/1", b"1234")])
    found = members_of(path).members
    assert found["a/data/0"].size == 5 << 30
    with path.open("rb") as file:
        file.seek(found["a/data/1"].offset)
        assert file.read(4) == b"1234"


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([*GOOD, Entry("a/data.pkl", b"evil")], "two members called a/data.pkl"),
        ([*GOOD, Entry("a/data/1", b"x", method=8)], "is compressed"),
        ([*GOOD, Entry("a/data/1", b"x", flags=0x1)], "is marked as encrypted"),
        ([*GOOD, Entry("a/data/1", b"x", flags=0x40)], "is marked as encrypted"),
        ([*GOOD, Entry("a/data/1", b"x", flags=0x20)], "has unusual flags"),
        ([*GOOD, Entry("../evil", b"x")], "unsafe name '../evil'"),
        ([*GOOD, Entry("a/../../evil", b"x")], "unsafe name"),
        ([*GOOD, Entry("/etc/evil", b"x")], "unsafe name"),
        ([*GOOD, Entry("C:/evil", b"x")], "unsafe name"),
        ([*GOOD, Entry("a\\evil", b"x")], "unsafe name"),
        ([*GOOD, Entry("a/\0evil", b"x")], "unsafe name"),
        ([*GOOD, Entry("", b"x")], "unsafe name"),
        ([*GOOD, Entry("a/data/1", b"x", local_name="a/data/9")], "disagree about"),
        ([*GOOD, Entry("a/data/1", b"x", local_name="a/data/10")], "disagree about"),
        ([*GOOD, Entry("a/data/1", b"x", says_offset=0)], "lie on the same bytes"),
        ([*GOOD, Entry("a/data/1", b"x", says_offset=10)], "lie on the same bytes"),
        ([*GOOD, Entry("a/data/1", b"x", says_size=1 << 20)], "reaches beyond the end"),
        ([*GOOD, Entry("a/data/1", b"x", says_size=1 << 40)], "reaches beyond the end"),
        ([Entry("a/data/1", b"x", says_size=80), *GOOD], "lie on the same bytes"),
        ([*GOOD, Entry("a/data/1", b"x", says_offset=1 << 30)], "cut off"),
    ],
)
def test_an_archive_with_a_trick_is_refused(tmp_path: Path, entries: Sequence[Entry], why: str) -> None:
    with pytest.raises(UnreadableModel, match=why):
        members_of(write_zip(tmp_path / "x.ckpt", entries))


def test_bytes_before_the_first_member_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match="before its first member"):
        members_of(write_zip(tmp_path / "x.ckpt", GOOD, before=b"#!/bin/sh\n"))


def test_bytes_after_the_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match="followed by other bytes"):
        members_of(write_zip(tmp_path / "x.ckpt", GOOD, after=b"junk"))


def test_two_archives_in_one_file_are_refused(tmp_path: Path) -> None:
    first = write_zip(tmp_path / "x.ckpt", GOOD).read_bytes()
    with pytest.raises(UnreadableModel, match=r"does not stand where|not where it should be"):
        (tmp_path / "x.ckpt").write_bytes(first + first)
        members_of(tmp_path / "x.ckpt")


def test_end_records_that_disagree_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.ckpt", GOOD)
    raw = bytearray(path.read_bytes())
    raw[-14] -= 1  # the number of members, in the short record only
    path.write_bytes(raw)
    with pytest.raises(UnreadableModel, match="two end records disagree"):
        members_of(path)


def test_a_directory_with_hidden_bytes_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.ckpt", GOOD)
    raw = bytearray(path.read_bytes())
    for place in (-14, -12, len(raw) - 22 - 20 - 32, len(raw) - 22 - 20 - 24):
        raw[place] = 2
    path.write_bytes(raw)
    with pytest.raises(UnreadableModel, match="belong to no member"):
        members_of(path)


def test_an_archive_cut_at_any_place_is_refused(tmp_path: Path) -> None:
    raw = write_zip(tmp_path / "x.ckpt", GOOD).read_bytes()
    for length in range(len(raw)):
        (tmp_path / "x.ckpt").write_bytes(raw[:length])
        with pytest.raises(UnreadableModel):
            members_of(tmp_path / "x.ckpt")


def test_a_flipped_byte_anywhere_gives_members_inside_the_file_or_an_error(tmp_path: Path) -> None:
    raw = write_zip(tmp_path / "x.ckpt", GOOD).read_bytes()
    refused = 0
    for place in range(len(raw)):
        damaged = bytearray(raw)
        damaged[place] ^= 0xFF
        (tmp_path / "x.ckpt").write_bytes(damaged)
        try:
            found = members_of(tmp_path / "x.ckpt").members
        except UnreadableModel:
            refused += 1
        else:
            assert all(m.offset >= 0 and m.offset + m.size <= len(raw) for m in found.values())
    assert refused > len(raw) // 3


def test_a_damaged_member_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.ckpt", [Entry("a/data.pkl", b"pickle", crc=1)])
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(UnreadableModel, match="its checksum is wrong"):
            read_archive(descriptor, path.name).read("a/data.pkl", 100)
    finally:
        os.close(descriptor)
