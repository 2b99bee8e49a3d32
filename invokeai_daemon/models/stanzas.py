"""Stanzas: `models.yaml` as text that people edit, a top-level key and its lines per model.

Called by `registry`. Reading is strict and fast (libyaml) and keeps one bad stanza from hiding the others. Writing
touches the lines of one stanza only, through ruamel, so that comments, order, quotes and unknown keys survive.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError as RuamelError

from invokeai_daemon.errors import ModelError, Problem

MAX_BYTES = 32 * 1024 * 1024
#: YAML nests by indentation; a stanza needs three levels.
MAX_DEPTH = 20


@dataclass(frozen=True)
class Stanza:
    """One top-level key of the file."""

    name: str
    #: Plain values: dict, list, str, int, float, bool, None.
    value: dict[str, Any]
    #: 1-based line of its key.
    line: int


@dataclass(frozen=True)
class Document:
    """What a registry file says."""

    stanzas: tuple[Stanza, ...]
    problems: tuple[Problem, ...]
    #: False when not even the outline could be read; `stanzas` is then empty.
    whole: bool = True


def read_stanzas(raw: bytes) -> Document:
    """The stanzas of a file and what is wrong with others. Never raises."""
    try:
        keys = _outline(raw)
    except _Mistake as mistake:
        return Document((), (Problem(str(mistake), line=mistake.line),), whole=False)
    stanzas: dict[str, Stanza] = {}
    problems: list[Problem] = []
    for name, node, line in keys:
        try:
            if name in stanzas:
                raise _Mistake(f"the name occurs twice, first in line {stanzas[name].line}.", line)
            value = _plain(node, 0)
            if not isinstance(value, dict):
                raise _Mistake("a model has keys and values below its name.", line)
            stanzas[name] = Stanza(name, value, line)
        except _Mistake as mistake:
            problems.append(Problem(str(mistake), name, mistake.line, "The entry is left out until this is corrected."))
    return Document(tuple(stanzas.values()), tuple(problems))


class _Mistake(Exception):
    """A mistake in the YAML, with its line."""

    def __init__(self, message: str, line: int) -> None:
        self.line = line
        super().__init__(message)


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _outline(raw: bytes) -> list[tuple[str, yaml.Node, int]]:
    """Name, value and line of every top-level key. Raises _Mistake."""
    if len(raw) > MAX_BYTES:
        raise _Mistake(f"the file has {len(raw):,} bytes; at most {MAX_BYTES:,} are read.", 1)
    try:
        root = yaml.compose(raw.decode("utf-8-sig"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise _Mistake("the file is not UTF-8 text.", raw.count(b"\n", 0, error.start) + 1) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _Mistake(f"not proper YAML: {error.problem}.", mark.line + 1 if mark else 1) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise _Mistake(f"not proper YAML: {error}.", 1) from error
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise _Mistake("the file must begin with the names of models, each with keys below it.", 1)
    return [(_name(key), value, key.start_mark.line + 1) for key, value in root.value]


def _name(node: yaml.Node) -> str:
    """A key as it is written: a model called `no` or `1.10` keeps its name."""
    if not isinstance(node, yaml.ScalarNode):
        raise _Mistake("a name must be plain text.", node.start_mark.line + 1)
    return str(node.value)


_SCALARS: dict[str, Callable[[str], Any]] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:int": lambda text: int(text.replace("_", ""), 0) if text.strip("+-") != "0" else 0,
    "tag:yaml.org,2002:float": lambda text: float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan")),
    "tag:yaml.org,2002:bool": lambda text: text.lower() in ("true", "yes", "on"),
    "tag:yaml.org,2002:null": lambda text: None,
    "tag:yaml.org,2002:timestamp": str,
}


def _plain(node: yaml.Node, depth: int, seen: set[int] | None = None) -> Any:
    """The value of a node. Aliases are refused: a few lines of them stand for terabytes."""
    line = node.start_mark.line + 1
    seen = set() if seen is None else seen
    if id(node) in seen:
        raise _Mistake("an alias (*name) is used; write the value out.", line)
    seen.add(id(node))
    if depth > MAX_DEPTH:
        raise _Mistake(f"nested deeper than {MAX_DEPTH} levels.", line)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, depth, seen)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(value, depth + 1, seen) for value in node.value]
    construct = _SCALARS.get(node.tag)
    if construct is None:
        raise _Mistake(f"the tag {ascii(node.tag)[:100]} is not allowed.", line)
    try:
        return construct(node.value)
    except ValueError:
        return node.value


def _mapping(node: yaml.MappingNode, depth: int, seen: set[int]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in node.value:
        name = _name(key)
        if name in values:
            raise _Mistake(f"the key {ascii(name)[:100]} occurs twice.", key.start_mark.line + 1)
        values[name] = _plain(value, depth + 1, seen)
    return values


# Writing


def with_stanza(text: str, name: str, value: dict[str, Any]) -> str:
    """The text with this stanza changed or, when it is new, appended. Keys whose value is None are removed.

    Raises ModelError when the text is not proper YAML.
    """
    span = _span(text, name)
    if span is None:
        separator = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
        return text + separator + _dumped({name: {key: item for key, item in value.items() if item is not None}})
    begin, end = span
    lines = text.splitlines(keepends=True)
    return "".join(lines[:begin]) + _changed("".join(lines[begin:end]), value) + "".join(lines[end:])


def without_stanza(text: str, name: str) -> str:
    """The text without this stanza; comments above it stay. Raises ModelError when the text is not proper YAML."""
    span = _span(text, name)
    if span is None:
        return text
    lines = text.splitlines(keepends=True)
    return "".join(lines[: span[0]] + lines[span[1] :])


def _span(text: str, name: str) -> tuple[int, int] | None:
    """The lines of a stanza, from its key to its last line of content (0-based, the end excluded)."""
    try:
        keys = _outline(text.encode())
    except _Mistake as mistake:
        raise ModelError(f"line {mistake.line}: {mistake}") from mistake
    node = next(((node, line) for key, node, line in keys if key == name), None)
    if node is None:
        return None
    value, line = node
    if any(other == line for _, _, other in keys if _ != value):
        raise ModelError(f"line {line}: several models stand in one line; give each its own lines.")
    following = [other for _, _, other in keys if other > line]
    end = (min(following) if following else len(text.splitlines()) + 1) - 1
    lines = text.splitlines()
    while end > line and not _is_content(lines[end - 1]):
        end -= 1
    return line - 1, end


def _is_content(line: str) -> bool:
    """Whether a line belongs to the stanza above it: not blank, and no comment at the left edge."""
    return bool(line.strip()) and not line.startswith("#")


def _editor() -> YAML:
    editor = YAML(typ="rt")
    editor.preserve_quotes = True
    editor.width = 4096
    editor.allow_unicode = True
    return editor


def _dumped(value: dict[str, Any]) -> str:
    stream = io.StringIO()
    _editor().dump(value, stream)
    return stream.getvalue()


def _changed(stanza: str, value: dict[str, Any]) -> str:
    """The lines of one stanza with other values; keys that keep their value keep their text."""
    try:
        content = _editor().load(stanza)
    except RuamelError as error:
        raise ModelError(f"a stanza cannot be edited: {error}") from error
    (key,) = content
    inner = content[key]
    if not isinstance(inner, dict):
        content[key] = inner = {}
    for name, item in value.items():
        if item is None:
            inner.pop(name, None)
        elif name not in inner or inner[name] != item:
            inner[name] = item
    return _dumped(content)
