"""Safetensors files that lie about lengths, offsets, shapes and names, or whose header would grow in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.hostile.kinds import Table
from tests.models.build import write_raw_safetensors

TABLE = Table("safetensors:")
W = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def _add(
    name: str, reason: str, header: Any, data: int = 8, length: int | None = None, state: str = "rejected"
) -> None:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    TABLE.add(name, reason, lambda path, _canary: write_raw_safetensors(path, raw, data, length), state)


def _entry(**changes: Any) -> dict[str, Any]:
    return {"w": {**W, **changes}}


_twice = b'{"w":' + json.dumps(W).encode() + b',"w":' + json.dumps(W).encode() + b"}"
_add("a header of 2^63 bytes", "not a weight file", {"w": W}, length=2**63)
_add("a header of 2^40 bytes", "not a weight file", {"w": W}, length=2**40)
_add("a header of 99 MB that is there", "at most 16,777,216 are read", b"{" + b" " * 50, 99_999_949, 99_999_999)
_add("a header of 99 MB that is not there", "cut off", {"w": W}, length=99_999_999)
_add("a header one byte beyond the end", "cut off", {"w": W}, data=0, length=len(json.dumps({"w": W})) + 1)
_add("a header of no bytes", "zeros only", b"", length=0)
_add("a name twice", "occurs twice", _twice)
_add("a name twice by an escape", "occurs twice", _twice.replace(b'"w"', rb'"\u0077"', 1))
_add(
    "a colon hidden beside a name twice", "occurs twice", _twice[:-1] + rb',"a\u003ab":' + json.dumps(W).encode() + b"}"
)
_add("metadata twice", "occurs twice", b'{"__metadata__":{},"__metadata__":{},"w":' + json.dumps(W).encode() + b"}")
_add("metadata of numbers", "metadata are not texts", {"__metadata__": {"a": 1}, "w": W})
_add("metadata that are a list", "metadata are not texts", {"__metadata__": [], "w": W})
_add("tensors on the same bytes", "overlaps another", {"w": W, "v": W})
_add("tensors that overlap by a byte", "overlaps another", {"w": W, "v": {**W, "data_offsets": [7, 15]}}, 15)
_add("a hole", "leaves a hole", _entry(data_offsets=[8, 16]), 16)
_add("bytes after the last tensor", "follow its last tensor", {"w": W}, 1000)
_add("bytes that are not there", "cut off", {"w": W}, 4)
_add("a negative offset", "numbers that cannot be", _entry(data_offsets=[-8, 0]), 0)
_add("an offset of 2^63", "numbers that cannot be", _entry(data_offsets=[2**63, 2**63 + 8]))
_add("an end before its start", "numbers that cannot be", _entry(data_offsets=[8, 0]))
_add("a shape that overflows", "has shape", _entry(shape=[2**32, 2**32]))
_add("a shape of 2^62 by nothing", "cannot be", _entry(shape=[0, 2**62], data_offsets=[0, 0]), 0)
_add("a shape of truth values", "numbers that cannot be", _entry(shape=[True, 2]))
_add("a shape of fractions", "numbers that cannot be", _entry(shape=[2.0]))
_add("a million dimensions", "cannot be|more than any model", _entry(shape=[1] * 1_000_000))
_add("an unknown type", "not as the format wants it", _entry(dtype="F33"))
_add("a type that is a list", "not as the format wants it", _entry(dtype=["F32"]))
_add("half a byte", "has shape", _entry(dtype="F4", shape=[1], data_offsets=[0, 1]), 1)
_add("an entry that is a number", "not as the format wants it", {"w": 5})
_add("a header that is a list", "not a weight file|not a JSON object", b"[]", 0)
_add("not a number", "NaN is no number", b'{"w":NaN}')
_add("a number of 5,000 digits", "not proper JSON", b'{"w":{"shape":[' + b"9" * 5000 + b"]}}")
_add("200,000 lists in each other", "not proper JSON|more than any", b'{"w":' + b"[" * 200_000 + b"]" * 200_000 + b"}")
_add("5 million lists", "more than any model needs", b'{"w":[' + b"[]," * 5_000_000 + b"0]}")
_add("7 million numbers", "more than any model needs", b'{"w":[' + b"0," * 7_000_000 + b"0]}")
_add("20,001 tensors", "at most", {f"t{n}": {**W, "data_offsets": [8 * n, 8 * n + 8]} for n in range(20_001)}, 160_008)
_add("broken UTF-8", "not proper JSON", b'{"w\xff":{}}')
_add("a name that leaves its folder", "leads out of its folder", {"../../etc/cron.d/x": W})
_add("an absolute name", "leads out of its folder", {"/etc/passwd": W})
_add("a name with NUL", "control characters", {"w\0.txt": W})
_add("a name with ESC", "control characters", {"w\x1b[2J": W})
_add("a name with a line break", "control characters", {"w\nrejected: no": W})
_add("a name written from right to left", "control characters", {"w\u202esrotnesefas": W})
_add("a lone surrogate in a name", "control characters", rb'{"\ud800":' + json.dumps(W).encode() + b"}")
_add("a name of 100,000 characters", "has 100,000 characters", {"w" * 100_000: W})
_add("no tensors", "", {}, 0, state="unknown")
_add("a header that begins with a space", "not a weight file", b" {}", 0)
_add(
    "sparse gigabytes of nothing",
    "",
    {"w": {"dtype": "F32", "shape": [2**33], "data_offsets": [0, 2**35]}},
    2**35,
    state="unknown",
)


@TABLE.kind("follow its last tensor")
def with_an_archive_after_it(path: Path, _canary: Path) -> None:
    write_raw_safetensors(path, json.dumps({"w": W}).encode(), 8)
    with path.open("ab") as file:
        file.write(b"PK\x05\x06" + bytes(18))
