"""Files that are something else, or nothing."""

from __future__ import annotations

import gzip
import io
import tarfile

from tests.hostile.kinds import Table, content

TABLE = Table("other:")


def _tar() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        member = tarfile.TarInfo("../../pickle")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    return raw.getvalue()


for _name, _raw, _why in [
    ("empty", b"", "the file is empty"),
    ("one byte", b"\x80", "cut off|not a weight"),
    ("eight bytes", bytes(range(1, 9)), "not a weight file"),
    ("zeros", bytes(1 << 20), "zeros only"),
    ("a web page", b"<!DOCTYPE html><html><script>alert(1)</script>", "a web page"),
    ("a web page after blanks", b"\r\n  <html>Please log in", "a web page"),
    ("an LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "git lfs pull"),
    ("JSON", b'{"error": "not found"}', "not a weight file"),
    ("a picture", b"\x89PNG\r\n\x1a\n" + bytes(100), "not a weight file"),
    ("a program", b"\x7fELF\2\1\1" + bytes(100), "not a weight file"),
    ("a Windows program", b"MZ" + bytes(200), "not a weight file"),
    ("a script", b"#!/bin/sh\nrm -rf ~\n", "not a weight file"),
    ("a 7z archive", b"7z\xbc\xaf\x27\x1c" + bytes(100), "not a weight file"),
    ("a gzip file", gzip.compress(b"x" * 1000), "not a weight file"),
    ("a RAR archive", b"Rar!\x1a\x07\0" + bytes(100), "not a weight file"),
    ("HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100), "not a weight file"),
    ("a tar archive", _tar(), "a tar archive"),
    ("an empty zip", b"PK\5\6" + bytes(18), "without tensors"),
    ("the start of a zip", b"PK\3\4" + bytes(1000), "end is missing"),
    ("noise", bytes((n * 7919) % 251 for n in range(5000)), "not a weight file|cut off|malformed"),
]:
    TABLE.add(_name, _why, content(_raw))
