"""Stanzas: `models.yaml` as text that people edit, a top-level key and its lines per model.

Called by `registry`. Reading is strict and fast: the text is cut at its top-level keys, libyaml parses each piece by
itself, and a piece that was read before is not parsed again. One bad stanza hides no other. Writing is in `sheet`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import yaml

from invokeai_daemon.errors import Problem

#: 20,000 ordinary models; the daemon, which holds them all, is meant to be small.
MAX_BYTES, MAX_MODELS = 8 * 1024 * 1024, 20_000
#: Characters of one stanza, and keys and values in it: each costs hundreds of bytes once it is parsed.
MAX_STANZA, MAX_VALUES = 512 * 1024, 40_000
#: The same of a file that is parsed as a whole where it cannot be cut at its stanzas.
MAX_WHOLE, MAX_WHOLE_VALUES = 1024 * 1024, 100_000
#: YAML nests by indentation; a stanza needs three levels.
MAX_DEPTH = 20
#: Characters that cannot nest deep enough to do harm; most stanzas have less.
SHORT = 2000

T = TypeVar("T")


@dataclass(frozen=True)
class Stanza:
    """One top-level key of the file."""

    name: str
    #: Plain values: dict, list, str, int, float, bool, None.
    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Piece(Generic[T]):
    """A stanza where it stands in the file."""

    name: str
    #: Its lines, and the blank lines and comments up to the next stanza; empty when the file could not be cut.
    text: str
    #: 1-based line of its key.
    line: int
    #: What was made of it; None when it is left out because of `problems`.
    made: T | None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Document(Generic[T]):
    """What a registry file says."""

    text: str
    pieces: tuple[Piece[T], ...]
    #: Why the file is not proper YAML; `pieces` are then those that are sound by themselves, and the others' names.
    broken: Problem | None = None
    #: Whether `text` is the text before the first piece and then the pieces' texts.
    is_cut: bool = True

    @property
    def problems(self) -> tuple[Problem, ...]:
        found = tuple(one for piece in self.pieces for one in piece.problems)
        return found or ((self.broken,) if self.broken else ())


#: Makes something of a stanza, and says what is wrong in it; lines are counted from the stanza's own first line.
Make = Callable[[Stanza], tuple[T, list[Problem]]]


class Reader(Generic[T]):
    """Reads one file again and again. What it makes of a stanza is kept as long as its text stands in the file."""

    def __init__(self, make: Make[T]) -> None:
        self._make = make
        self._known: dict[str, Piece[T]] = {}

    def read(self, raw: bytes) -> Document[T]:
        """The stanzas of a file and what is wrong with others. Never raises."""
        try:
            text = _decoded(raw)
        except Mistake as mistake:
            return Document("", (), Problem(str(mistake), line=mistake.line))
        pieces = self._in_pieces(text)
        if pieces is not None:
            return Document(text, tuple(_once_each(pieces)))
        try:
            _refuse_long(text)
            whole = [self._made(name, node, line, "") for name, node, line in outline(text)]
            return Document(text, tuple(_once_each(whole)), is_cut=False)
        except Mistake as mistake:
            problem = Problem(str(mistake), line=mistake.line)
            return Document(text, tuple(_once_each(self._salvaged(text))), problem)

    def _in_pieces(self, text: str) -> list[Piece[T]] | None:
        """The stanzas, each parsed by itself; None when a cut would go through a value, or there is a mistake."""
        if _UNUSUAL.search(text) or not _HEAD.fullmatch(cut(text)[0]):
            return None
        known: dict[str, Piece[T]] = {}
        pieces: list[Piece[T]] = []
        try:
            for part, line in _parts(text):
                known[part] = self._known.get(part) or self._alone(part)
                pieces.append(_moved(known[part], line))
        except Mistake:
            return None
        self._known = known
        return pieces

    def _alone(self, part: str) -> Piece[T]:
        """A piece of the text as a stanza. Raises Mistake when it is not exactly one."""
        if len(part) > MAX_STANZA:
            raise Mistake(f"a model may have {MAX_STANZA:,} characters, and this one has more; shorten it.", 1)
        keys = outline(part, MAX_VALUES)
        if len(keys) != 1:
            raise Mistake("several models stand in one line; give each its own lines.", 1)
        ((name, node, _),) = keys
        return self._made(name, node, 1, part)

    def _made(self, name: str, node: yaml.Node, line: int, text: str) -> Piece[T]:
        try:
            value = plain(node, 0)
            if not isinstance(value, dict):
                raise Mistake("a model has keys and values below its name.", line)
        except Mistake as mistake:
            return Piece(name, text, line, None, (_left_out(str(mistake), name, mistake.line),))
        made, problems = self._make(Stanza(name, value))
        return _moved(Piece(name, text, 1, made, tuple(problems)), line)

    def _salvaged(self, text: str) -> Iterator[Piece[T]]:
        """What can be read of a file that is broken somewhere: each stanza that is sound by itself."""
        for part, line in _parts(text):
            try:
                yield _moved(self._known.get(part) or self._alone(part), line)
            except Mistake as mistake:
                guessed = _GUESSED_NAME.match(part)
                name = guessed[2] if guessed else ""
                yield Piece(name, part, line, None, (_left_out(str(mistake), name, line + mistake.line - 1),))


def _parts(text: str) -> Iterator[tuple[str, int]]:
    """The text of each stanza, and the line that it begins in."""
    head, *parts = cut(text)
    line = 1 + head.count("\n")
    for part in parts:
        yield part, line
        line += part.count("\n")


def _moved(piece: Piece[T], line: int) -> Piece[T]:
    """A piece that is known from line 1, in another line."""
    if line == piece.line:
        return piece
    by = line - piece.line
    problems = tuple(replace(one, line=one.line + by) if one.line else one for one in piece.problems)
    return Piece(piece.name, piece.text, line, piece.made, problems)


def cut(text: str) -> list[str]:
    """The text before the first top-level key, then a text for each; joined they are the whole."""
    begins = [match.start() for match in _TOP.finditer(text)]
    return (
        [text[: begins[0]], *map(text.__getitem__, map(slice, begins, [*begins[1:], len(text)]))] if begins else [text]
    )


#: A line at the left edge that is no comment.
_TOP = re.compile(r"^[^\s#]", re.MULTILINE)
#: Line ends that are none for `_TOP`, or documents and directives: such a file is parsed as a whole.
_UNUSUAL = re.compile("\r(?!\n)|[\x85\u2028\u2029]|^(?:---|\\.\\.\\.|%)", re.MULTILINE)
#: What may stand before the first stanza: comments and blank lines.
_HEAD = re.compile(r"(?: *(?:#[^\n]*)?(?:\n|$))*")
#: The name of a stanza whose YAML is broken.
_GUESSED_NAME = re.compile(r"""(["']?)([^\n]+?)\1\s*:(?:\s|$)""")


def _once_each(pieces: Iterable[Piece[T]]) -> Iterator[Piece[T]]:
    first: dict[str, int] = {}
    for piece in pieces:
        if piece.name in first:
            message = f"the name occurs twice, first in line {first[piece.name]}."
            yield replace(piece, made=None, problems=(_left_out(message, piece.name, piece.line),))
        else:
            first[piece.name] = piece.line
            yield piece


def _left_out(message: str, name: str, line: int) -> Problem:
    return Problem(message, name, line, "The entry is left out until this is corrected.")


class Mistake(Exception):
    """A mistake in the YAML, with its line."""

    def __init__(self, message: str, line: int) -> None:
        self.line = line
        super().__init__(message)


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_TO_DO = "Take out what is no model, or put back the file from before the last change (models.yaml.bak)."


def _decoded(raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise Mistake(
            f"the file has more than {MAX_BYTES:,} bytes ({MAX_MODELS:,} ordinary models), so it is not read. {_TO_DO}",
            1,
        )
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise Mistake("the file is not UTF-8 text.", raw.count(b"\n", 0, error.start) + 1) from error
    if sum(1 for _ in _TOP.finditer(text)) > MAX_MODELS:
        raise Mistake(f"more than {MAX_MODELS:,} lines begin at the left margin, as names of models do. {_TO_DO}", 1)
    return text


def outline(text: str, most: int = MAX_WHOLE_VALUES) -> list[tuple[str, yaml.Node, int]]:
    """Name, value and line of every top-level key. Raises Mistake."""
    try:
        if len(text) > SHORT:
            _refuse_deep(text, most)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Mistake(f"not proper YAML: {error.problem}.", mark.line + 1 if mark else 1) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise Mistake(f"not proper YAML: {error}.", 1) from error
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise Mistake("the file must begin with the names of models, each with keys below it.", 1)
    return [(_name(key), value, key.start_mark.line + 1) for key, value in root.value]


def _refuse_long(text: str) -> None:
    if len(text) > MAX_WHOLE:
        raise Mistake(
            "the file cannot be cut at its models, and is too long to be read in one: "
            "begin each model's name at the left margin of a line of its own, and give its keys lines below it.",
            1,
        )


def _refuse_deep(text: str, most: int) -> None:
    """libyaml composes each level within the one above, and the process dies of too many of them, or of `most` values.

    Events are made and gone one by one.
    """
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if count > most:
            raise Mistake(
                f"more than {most:,} keys and values; take out what does not belong there.",
                event.start_mark.line + 1 if event.start_mark else 1,
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise Mistake(
                    f"nested deeper than {MAX_DEPTH} levels.", event.start_mark.line + 1 if event.start_mark else 1
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _name(node: yaml.Node) -> str:
    """A key as it is written: a model called `no` or `1.10` keeps its name."""
    if not isinstance(node, yaml.ScalarNode):
        raise Mistake("a name must be plain text.", node.start_mark.line + 1)
    return str(node.value)


_SCALARS: dict[str, Callable[[str], Any]] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:int": lambda text: int(text.replace("_", ""), 0) if text.strip("+-") != "0" else 0,
    "tag:yaml.org,2002:float": lambda text: float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan")),
    "tag:yaml.org,2002:bool": lambda text: text.lower() in ("true", "yes", "on"),
    "tag:yaml.org,2002:null": lambda text: None,
    "tag:yaml.org,2002:timestamp": str,
}


def plain(node: yaml.Node, depth: int, seen: set[int] | None = None) -> Any:
    """The value of a node. Aliases are refused: a few lines of them stand for terabytes."""
    line = node.start_mark.line + 1
    seen = set() if seen is None else seen
    if id(node) in seen:
        raise Mistake("an alias (*name) is used; write the value out.", line)
    seen.add(id(node))
    if depth > MAX_DEPTH:
        raise Mistake(f"nested deeper than {MAX_DEPTH} levels.", line)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, depth, seen)
    if isinstance(node, yaml.SequenceNode):
        return [plain(value, depth + 1, seen) for value in node.value]
    construct = _SCALARS.get(node.tag)
    if construct is None:
        raise Mistake(f"the tag {ascii(node.tag)[:100]} is not allowed.", line)
    try:
        return construct(node.value)
    except ValueError:
        return node.value


def _mapping(node: yaml.MappingNode, depth: int, seen: set[int]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in node.value:
        name = _name(key)
        if name in values:
            raise Mistake(f"the key {ascii(name)[:100]} occurs twice.", key.start_mark.line + 1)
        values[name] = plain(value, depth + 1, seen)
    return values
