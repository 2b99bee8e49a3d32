"""GGUF files that lie about counts, lengths, types and offsets."""

from __future__ import annotations

import struct

from tests.hostile.kinds import Table, content
from tests.models.build import gguf_array, gguf_file, gguf_tensor, gguf_text, gguf_value

TABLE = Table("gguf:")
T = gguf_tensor("w", (8,), 0, 0)
LONG = 2**62


def _number(key: str, value: int) -> bytes:
    return gguf_value(key, 4, struct.pack("<I", value))


for _name, _raw, _why in [
    ("version 1", gguf_file([T], data=32, version=1), "version 1"),
    ("version 2^31", gguf_file([T], data=32, version=2**31), "version"),
    ("big-endian", gguf_file([T], data=32, version=0x03000000), "big-endian"),
    ("2^63 tensors", gguf_file([T], data=32, tensors_said=2**63), "would have"),
    ("2^63 keys", gguf_file([T], data=32, keys_said=2**63), "keys"),
    ("more keys than there are", gguf_file([], keys_said=20_000), "cut off"),
    ("more tensors than there are", gguf_file([T], data=0, tensors_said=20_000), "cut off"),
    ("a key of 2^62 bytes", gguf_file([], [struct.pack("<Q", LONG)]), "a text of"),
    ("a text of 2^62 bytes", gguf_file([], [gguf_value("k", 8, struct.pack("<Q", LONG))]), "a text of"),
    ("an array of 2^62 numbers", gguf_file([], [gguf_array("k", 4, LONG)]), "more than"),
    ("an array of 2^62 texts", gguf_file([], [gguf_array("k", 8, LONG)]), "an array of"),
    ("an array of 2^62 arrays", gguf_file([], [gguf_array("k", 9, LONG)]), "arrays of arrays"),
    (
        "2,000 arrays in each other",
        gguf_file([], [gguf_array("k", 9, 1, struct.pack("<IQ", 9, 1) * 2000)]),
        "arrays of",
    ),
    ("an array of an unknown type", gguf_file([], [gguf_array("k", 77, 1)]), "unknown type 77"),
    ("a value of an unknown type", gguf_file([], [gguf_value("k", 13, b"")]), "unknown type 13"),
    ("a key twice", gguf_file([], [gguf_text("k", "v")] * 2), "occurs twice"),
    ("a key that is no text", gguf_file([], [gguf_text(b"\xff\xfe", "v")]), "not UTF-8"),
    ("a key with ESC", gguf_file([], [gguf_text("k\x1b", "v")]), "control characters"),
    ("alignment 0", gguf_file([], [_number("general.alignment", 0)]), "alignment"),
    ("alignment 33", gguf_file([], [_number("general.alignment", 33)]), "alignment"),
    ("alignment 2^31", gguf_file([], [_number("general.alignment", 2**31)]), "alignment"),
    ("an alignment that is a text", gguf_file([], [gguf_text("general.alignment", "32")]), "alignment"),
    ("a tensor twice", gguf_file([T, gguf_tensor("w", (8,), 0, 32)], data=64), "are called 'w'"),
    ("tensors on the same bytes", gguf_file([T, gguf_tensor("v", (8,), 0, 0)], data=32), "overlaps"),
    ("a hole", gguf_file([gguf_tensor("w", (8,), 0, 640)], data=672), "leaves a hole"),
    ("an odd offset", gguf_file([gguf_tensor("w", (8,), 0, 7)], data=64), "a multiple of"),
    ("an offset that overflows", gguf_file([gguf_tensor("w", (8,), 0, 2**64 - 32)], data=32), "cannot be"),
    ("an offset beyond the end", gguf_file([gguf_tensor("w", (8,), 0, 2**40)], data=32), "cut off"),
    ("a size that overflows", gguf_file([gguf_tensor("w", (2**32, 2**32), 0, 0)], data=32), "cannot be"),
    ("nothing by 2^62", gguf_file([gguf_tensor("w", (LONG, 0), 0, 0)]), "cannot be"),
    ("2^32 - 1 dimensions", gguf_file([T[:9] + struct.pack("<I", 2**32 - 1)]), "dimensions"),
    ("a type that was given up", gguf_file([gguf_tensor("w", (32,), 4, 0)], data=32), "unknown type 4"),
    ("a type that overflows", gguf_file([gguf_tensor("w", (32,), 2**32 - 1, 0)], data=32), "unknown type"),
    ("half a block", gguf_file([gguf_tensor("w", (48,), 2, 0)], data=64), "no whole blocks"),
    ("bytes after the last tensor", gguf_file([T], data=4096), "follow its last tensor"),
    ("bytes that are not there", gguf_file([T], data=8), "cut off"),
    ("a name with a line break", gguf_file([gguf_tensor("w\n", (8,), 0, 0)], data=32), "control characters"),
    ("a name that leaves its folder", gguf_file([gguf_tensor("../../x", (8,), 0, 0)], data=32), "leads out"),
    ("a name that is no text", gguf_file([gguf_tensor(b"\xff", (8,), 0, 0)], data=32), "not UTF-8"),
    (
        "a shape of less than nothing",
        gguf_file([T], [gguf_array("comfy.gguf.orig_shape.w", 5, 1, b"\xf8\xff\xff\xff")], 32),
        "does not fit",
    ),
    ("only its first bytes", b"GGUF", "cut off"),
    ("an archive after it", gguf_file([T], data=32) + b"PK\5\6" + bytes(30), "follow its last tensor"),
]:
    TABLE.add(_name, _why, content(_raw))
