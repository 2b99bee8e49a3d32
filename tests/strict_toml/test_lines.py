"""Lines of keys: every key that tomllib finds is found on the line where it stands."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings

from invokeai_daemon.errors import JobError
from invokeai_daemon.strict_toml import dump_toml, read_toml
from invokeai_daemon.strict_toml.lines import Lines
from tests.strict_toml.values import tables

TEXT = '''# a job
prompt = """
a = 1
[no.table]
"""
"quoted key" = 1
a.b = 1
list = [
  { name = "x", weight = 1.5 },  # a comment
  { name = "y" },
]

[[loras]]
name = "ink"

[[loras]]
name = "fog"
[loras.sub]
deep = true

[meta]
inline = { one = 1, two = { three = 3 } }
'''


def test_keys_are_found_where_they_stand() -> None:
    assert dict(Lines(TEXT)) == {
        "prompt": 2,
        "quoted key": 6,
        "a.b": 7,
        "list": 8,
        "list[0]": 9,
        "list[0].name": 9,
        "list[0].weight": 9,
        "list[1]": 10,
        "list[1].name": 10,
        "loras": 13,
        "loras[0]": 13,
        "loras[0].name": 14,
        "loras[1]": 16,
        "loras[1].name": 17,
        "loras[1].sub": 18,
        "loras[1].sub.deep": 19,
        "meta": 21,
        "meta.inline": 22,
        "meta.inline.one": 22,
        "meta.inline.two": 22,
        "meta.inline.two.three": 22,
    }


def test_a_key_that_is_missing_is_placed_at_the_table_around_it() -> None:
    document = read_toml(TEXT.encode(), "cat.toml", JobError)
    assert document.line("loras[1].wieght") == 16
    assert document.line("meta.inline.nothing.deeper") == 22
    assert document.line("prompts") is None


@given(tables)
@settings(deadline=None, max_examples=100)
def test_every_key_of_a_written_table_is_found(table: dict[str, Any]) -> None:
    text = dump_toml(table)
    lines = Lines(text)
    for path, key in _paths(tomllib.loads(text), ""):
        assert key in text.split("\n")[lines[path] - 1]


def _paths(table: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        path = f"{prefix}.{key}" if prefix else key
        yield path, key
        if isinstance(value, dict):
            yield from _paths(value, path)
