"""TOML out: for job.toml and everything else that a person may read and edit afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
_TO_ESCAPE = re.compile('["\\\\\x00-\x1f\x7f]')


def dump_toml(data: Mapping[str, Any]) -> str:
    """A TOML text that parses to `data`: plain values first, then tables and lists of them. None values are left out.

    Raises ValueError for what TOML (or JSON, to which everything of ours also goes) cannot say: nan, inf, dates.
    """
    return "".join(_table_lines(data, ""))


def _table_lines(table: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, value in table.items():
        if value is not None and not _has_headers(value):
            yield f"{_key_text(key)} = {_value_text(value)}\n"
    for key, value in table.items():
        if _has_headers(value):
            inner = _joined(path, _key_text(key))
            is_list = not isinstance(value, Mapping)
            for each in value if is_list else [value]:
                yield f"\n[[{inner}]]\n" if is_list else f"\n[{inner}]\n"
                yield from _table_lines(each, inner)


def _has_headers(value: Any) -> bool:
    """Whether a value is a table, or a list of nothing but tables."""
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(each, Mapping) for each in value)
    return isinstance(value, Mapping)


def _key_text(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string_text(key)


def _string_text(text: str) -> str:
    escaped = _TO_ESCAPE.sub(lambda match: _ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04x}", text)
    return f'"{escaped}"'


def _value_text(value: Any) -> str:
    if isinstance(value, str):
        return _string_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and value - value == 0:
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value_text(element) for element in value) + "]"
    if isinstance(value, Mapping):
        pairs = (f"{_key_text(key)} = {_value_text(inner)}" for key, inner in value.items() if inner is not None)
        return "{" + ", ".join(pairs) + "}"
    raise ValueError(f"{value!r} cannot be written as TOML here")


def _joined(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part
