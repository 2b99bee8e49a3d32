"""TOML in: bytes to a Document, with hostile input refused in milliseconds and slips explained."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from invokeai_daemon.errors import Problem, ProblemsError
from invokeai_daemon.strict_toml.lines import Lines, key_lines, tokens

#: Nobody writes a file nested deeper than this or with more dotted names; tomllib would take seconds over it.
MAX_NESTING = 16
MAX_KEY_PARTS = 8
MAX_DOTTED_PARTS = 500


@dataclass
class Document:
    """A TOML file that parsed."""

    #: The file, as messages name it.
    where: str
    data: dict[str, Any]
    #: Dotted key ("loras[0].name") -> 1-based line.
    lines: Mapping[str, int]

    def line(self, key: str) -> int | None:
        """The line of a key, or of the nearest table around it; None when neither is in the file."""
        while key:
            if key in self.lines:
                return self.lines[key]
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return None


def read_toml(raw: bytes, where: str, error: type[ProblemsError]) -> Document:
    """Parse a TOML file of bounded size. A UTF-8 BOM and CRLF are fine. Raises `error`."""
    try:
        text = _text(raw)
        _refuse_absurd(text)
        return Document(where, _parsed(text), Lines(text))
    except _Refused as refused:
        raise error(where, [refused.problem]) from refused.__cause__


class _Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


def _parsed(text: str) -> dict[str, Any]:
    # A number with thousands of digits is a plain ValueError, brackets without end a RecursionError.
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as failure:
        raise _Refused(_syntax_problem(failure, text)) from failure


def _text(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:4]:
        raise _Refused(Problem("The file is UTF-16 or UTF-32 text.", line=1, hint="Save it as UTF-8."))
    try:
        return raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as failure:
        line = raw.count(b"\n", 0, failure.start) + 1
        message = f"The byte 0x{raw[failure.start]:02x} is not UTF-8."
        raise _Refused(Problem(message, line=line, hint="Save the file as UTF-8.")) from None


def _refuse_absurd(text: str) -> None:
    """Refuse what would make tomllib slow: its cost grows with the square of dotted names, its stack with nesting."""
    if text.count(".") <= MAX_DOTTED_PARTS // 8 and text.count("[") + text.count("{") <= MAX_NESTING:
        return
    depth = dots = dotted = 0
    for token, line in tokens(text):
        if token == ".":
            dots += 1
            dotted += dots > 1
            if dots >= MAX_KEY_PARTS or dotted > MAX_DOTTED_PARTS:
                raise _Refused(Problem(f"A name has more than {MAX_KEY_PARTS} dotted parts.", line=line))
        elif token in "=,\n[]{}":
            dots = 0
            depth = depth + (token in "[{") - (token in "]}")
            if depth > MAX_NESTING:
                raise _Refused(Problem(f"The brackets are nested more than {MAX_NESTING} deep.", line=line))


_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def _syntax_problem(failure: Exception, text: str) -> Problem:
    if isinstance(failure, RecursionError):
        return Problem("The brackets are nested too deep.")
    said = str(failure)
    place = _PLACE.search(said)
    if place is None:
        return Problem("A number has too many digits." if "digits" in said else said)
    line = int(place[1]) if place[1] else text.count("\n") + 1
    said = said[: place.start()]
    if said.startswith("Cannot ") and (twice := _set_twice(text)):
        return twice
    return Problem(f"This is not TOML: {said[:1].lower()}{said[1:]}.", line=line, hint=_syntax_hint(text, line))


def _set_twice(text: str) -> Problem | None:
    first: dict[str, int] = {}
    for key, line in key_lines(text):
        if key in first:
            return Problem(f"set twice, on line {first[key]} and here.", key, line, "Remove one of them.")
        first[key] = line
    return None


#: What people write that is not TOML: the pattern of the line, and what to do.
_SLIPS = (
    (re.compile("[“”„‘’«»]"), "Use straight quotes: \"text\" or 'text'."),
    (
        re.compile(r'=\s*"[^"]*\\([^btnfr"\\]|$)'),
        "In \"…\" double each backslash, or use single quotes: 'C:\\a'.",
    ),
    (re.compile(r"=\s*(True|False|TRUE|FALSE|yes|no|on|off)\s*(#.*)?$"), "Write true or false."),
    (re.compile(r"=\s*(None|null|nil)?\s*(#.*)?$"), "To leave a key unset, remove its line."),
    (re.compile(r"^\s*[A-Za-z_][\w-]*\s*:"), 'Write key = value, as in steps = 30; TOML has no "key: value".'),
    (re.compile(r"=\s*[\d_]+\s*,\s*\d+\s*(#.*)?$"), "Decimals take a point: 7.5."),
    (re.compile(r"=\s*0\d+\s*(#.*)?$"), "A number has no leading zeros."),
    (re.compile(r"=\s*'[^']*'\s*[^\s#]"), 'Text that holds an apostrophe goes in double quotes: "it\'s".'),
    (re.compile(r"=\s*[^\s\"'\[{\d+-]"), 'Text needs quotes: prompt = "a red circle".'),
    (re.compile(r"=\s*\"[^\"]*$"), 'The closing quote is missing; text over several lines goes between """ and """.'),
    (re.compile(r"^\s*[^=#\[\]]+$"), 'Write key = value, as in prompt = "a red circle".'),
)


def _syntax_hint(text: str, line: int) -> str:
    written = text.split("\n", line)[line - 1][:500].rstrip("\r")
    return next((hint for pattern, hint in _SLIPS if pattern.search(written)), "")
