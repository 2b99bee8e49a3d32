"""Where the keys of a TOML text stand. tomllib does not tell; messages need it. Never judges values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping


class Lines(Mapping[str, int]):
    """Dotted key ("loras[0].name") to 1-based line; found out when first asked, since good files never ask."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: dict[str, int] | None = None

    def _lines(self) -> dict[str, int]:
        if self._found is None:
            self._found = {}
            for key, line in key_lines(self._text):
                self._found.setdefault(key, line)
        return self._found

    def __getitem__(self, key: str) -> int:
        return self._lines()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines())

    def __len__(self) -> int:
        return len(self._lines())


# The unclosed forms come last in each pair and end the walk: a second try from every quote would be quadratic.
_TOKEN = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+"{3,5}|"""'
    r"|'''(?:[^']|'(?!''))*+'{3,5}|'''"
    r'|"(?:[^"\\\n]|\\.)*+"|"'
    r"|'[^'\n]*+'|'"
    r"|\#[^\n]*+|\n|[\[\]{}=,.]|[^\s\[\]{}=,.\"'\#]++",
    re.DOTALL,
)
_UNCLOSED = frozenset({'"', "'", '"""', "'''"})


def tokens(text: str) -> Iterator[tuple[str, int]]:
    """The tokens of a TOML text without comments, each with its line; ends at a string that does not end."""
    line = 1
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in _UNCLOSED:
            return
        if token[0] != "#":
            yield token, line
        if "\n" in token:
            line += token.count("\n")


def key_lines(text: str) -> Iterator[tuple[str, int]]:
    """Every key of a TOML text in dotted form with its line, in order; of a broken text, what can be made out."""
    return _Walk(text).statements()


class _Walk:
    """One pass over the tokens. Knows where keys are and nothing of values."""

    def __init__(self, text: str) -> None:
        self._tokens = tokens(text)
        self._token, self._line = "", 1
        self._elements: dict[str, int] = {}
        self._next()

    def _next(self) -> None:
        self._token, self._line = next(self._tokens, ("", self._line))

    def statements(self) -> Iterator[tuple[str, int]]:
        table = ""
        while self._token:
            if self._token == "\n":
                self._next()
            elif self._token == "[":
                table, line = self._header()
                if table.endswith("[0]"):
                    yield table.removesuffix("[0]"), line
                if table:
                    yield table, line
            else:
                yield from self._pair(table)
                self._skip("\n")

    def _header(self) -> tuple[str, int]:
        """`[table]` or `[[table]]`: its path with the indices of the tables it lies in."""
        line = self._line
        self._next()
        is_element = self._token == "["
        if is_element:
            self._next()
        parts = self._key("]")
        self._skip("\n")
        path = ""
        for number, part in enumerate(parts):
            path = _joined(path, part)
            if is_element and number == len(parts) - 1:
                self._elements[path] = self._elements.get(path, -1) + 1
            if path in self._elements:
                path = f"{path}[{self._elements[path]}]"
        return path, line

    def _key(self, end: str) -> list[str]:
        parts: list[str] = []
        while self._token and self._token not in (end, "\n"):
            if self._token not in ".[]{}=,":
                parts.append(self._token[1:-1] if self._token[0] in "\"'" else self._token)
            self._next()
        return parts

    def _pair(self, table: str) -> Iterator[tuple[str, int]]:
        line = self._line
        path = table
        for part in self._key("="):
            path = _joined(path, part)
        yield path, line
        if self._token == "=":
            self._next()
            yield from self._value(path)

    def _value(self, path: str) -> Iterator[tuple[str, int]]:
        if self._token == "[":
            self._next()
            yield from self._array(path)
        elif self._token == "{":
            self._next()
            yield from self._inline_table(path)
        else:
            self._skip(",", "]", "}", "\n")

    def _array(self, path: str) -> Iterator[tuple[str, int]]:
        number = 0
        while self._token and self._token != "]":
            if self._token in (",", "\n"):
                number += self._token == ","
                self._next()
            elif self._token in "}=.":
                self._next()
            else:
                yield f"{path}[{number}]", self._line
                yield from self._value(f"{path}[{number}]")
        self._next()

    def _inline_table(self, path: str) -> Iterator[tuple[str, int]]:
        while self._token and self._token not in ("}", "\n"):
            if self._token == ",":
                self._next()
            else:
                yield from self._pair(path)
                self._skip(",", "}", "\n")
        if self._token == "}":
            self._next()

    def _skip(self, *ends: str) -> None:
        while self._token and self._token not in ends:
            self._next()


def _joined(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part
