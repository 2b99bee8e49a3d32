"""Sheet: the text of `models.yaml` while it is changed. Only the lines of what changes are written anew.

Called by the registry, under its lock. A stanza that a person touched is edited through ruamel, so that its comments,
order, quotes and unknown keys survive; one that still is as it was written here is simply written again, which is fast.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError as RuamelError
from ruamel.yaml.scalarstring import LiteralScalarString, SingleQuotedScalarString

from invokeai_daemon.errors import ModelError
from invokeai_daemon.models.stanzas import Document, cut, outline, plain


@dataclass
class _Part:
    """The lines of a stanza up to the next one, or of several that share a line."""

    names: tuple[str, ...]
    text: str


class Sheet:
    """The stanzas of a sound document, to be added, changed, renamed and removed; `text` is the outcome."""

    def __init__(self, document: Document[Any]) -> None:
        if document.is_cut:
            self._head = cut(document.text)[0]
            self._parts = [_Part((piece.name,), piece.text) for piece in document.pieces]
        else:
            self._head, self._parts = _by_lines(document.text)
        #: Name → its part; of a name that occurs twice the first one.
        self._places = {name: part for part in reversed(self._parts) for name in part.names}

    @property
    def text(self) -> str:
        return "".join([self._head, *(part.text for part in self._parts)])

    def add(self, name: str, value: Mapping[str, Any]) -> None:
        """A new stanza at the end, after a blank line."""
        before = self._parts[-1].text if self._parts else self._head
        gap = "" if not before or before.endswith("\n\n") else "\n" if before.endswith("\n") else "\n\n"
        part = _Part((name,), dumped({name: {key: item for key, item in value.items() if item is not None}}))
        if self._parts:
            self._parts[-1].text += gap
        else:
            self._head += gap
        self._parts.append(part)
        self._places[name] = part

    def change(self, name: str, value: Mapping[str, Any]) -> None:
        """Give keys of a stanza other values; None removes a key. Raises ModelError when it shares its line."""
        part = self._alone(name)
        content, rest = _content(part.text)
        part.text = _changed(content, value) + rest

    def rename(self, name: str, new: str) -> None:
        """Give a stanza another name. Raises ModelError when it shares its line."""
        part = self._alone(name)
        root = yaml.compose(part.text)
        assert isinstance(root, yaml.MappingNode)
        key = root.value[0][0]
        written = dumped({new: 0}).rpartition(":")[0]
        part.text = part.text[: key.start_mark.index] + written + part.text[key.end_mark.index :]
        part.names = (new,)
        del self._places[name]
        self._places[new] = part

    def remove(self, name: str) -> None:
        """Take a stanza out; comments around it stay. Raises ModelError when it shares its line."""
        part = self._alone(name)
        rest = _content(part.text)[1]
        part.text, part.names = rest if rest.strip() else "", ()
        del self._places[name]

    @property
    def names(self) -> list[str]:
        return list(self._places)

    def is_as_written(self, name: str, keys: Collection[str]) -> bool:
        """Whether a stanza stands as it would be written here, with none but these keys."""
        content, _ = _content(self._alone(name).text)
        ((_, node, _),) = outline(content)
        value = plain(node, 0)
        return isinstance(value, dict) and value.keys() <= set(keys) and dumped({name: value}) == content

    def _alone(self, name: str) -> _Part:
        part = self._places[name]
        if len(part.names) > 1:
            raise ModelError(f"{' and '.join(part.names[:2])} stand in one line; give each model its own lines.")
        return part


#: Line ends as YAML has them.
_LINE = re.compile("[^\n\r\x85\u2028\u2029]*(?:\r\n|[\n\r\x85\u2028\u2029])|[^\n\r\x85\u2028\u2029]+")


def _by_lines(text: str) -> tuple[str, list[_Part]]:
    """A text that cannot simply be cut at the left edge, by the lines of its keys."""
    lines = _LINE.findall(text)
    names: dict[int, tuple[str, ...]] = {}
    for name, _, line in outline(text):
        names[line] = (*names.get(line, ()), name)
    begins = sorted(names)
    ends = [*begins[1:], len(lines) + 1]
    head = "".join(lines[: begins[0] - 1]) if begins else text
    return head, [
        _Part(names[begin], "".join(lines[begin - 1 : end - 1])) for begin, end in zip(begins, ends, strict=False)
    ]


def _content(text: str) -> tuple[str, str]:
    """The lines of a stanza, and what follows it: blank lines, and comments at the left edge."""
    lines = text.splitlines(keepends=True)
    end = len(lines)
    while end > 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return "".join(lines[:end]), "".join(lines[end:])


def _changed(stanza: str, value: Mapping[str, Any]) -> str:
    """The lines of one stanza with other values; keys that keep their value keep their text."""
    ((name, node, _),) = outline(stanza)
    before = plain(node, 0)
    if not isinstance(before, dict) or dumped({name: before}) == stanza:
        after = {**(before if isinstance(before, dict) else {}), **value}
        return dumped({name: {key: item for key, item in after.items() if item is not None}})
    return _edited(stanza, before, value)


def _edited(stanza: str, before: Mapping[str, Any], value: Mapping[str, Any]) -> str:
    """The same for a stanza that a person wrote or touched."""
    editor = YAML(typ="rt")
    editor.preserve_quotes = True
    editor.width = 4096
    editor.allow_unicode = True
    try:
        content = editor.load(stanza)
    except RuamelError as error:
        raise ModelError(f"a stanza cannot be edited: {error}") from error
    (key,) = content
    inner = content[key]
    for name, item in value.items():
        if item is None:
            inner.pop(name, None)
        elif name not in before or before[name] != item:
            inner[name] = _safe(item)
    stream = io.StringIO()
    editor.dump(content, stream)
    return stream.getvalue()


def _safe(item: Any) -> Any:
    """A value for ruamel, which writes YAML 1.2, such that a reader of YAML 1.1 does not take "yes" for a truth."""
    if isinstance(item, Mapping):
        return {key: _safe(value) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return [_safe(value) for value in item]
    if isinstance(item, str) and "\n" in item:
        return LiteralScalarString(item)
    if isinstance(item, str) and dumped({"": item}).endswith("'\n"):
        return SingleQuotedScalarString(item)
    return item


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """YAML as people write it: no anchors, texts of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def text(self, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data.strip("\n") else None
        node: yaml.ScalarNode = self.represent_scalar("tag:yaml.org,2002:str", data, style=style)
        return node


_Dumper.add_representer(str, _Dumper.text)


def dumped(value: Mapping[str, Any]) -> str:
    """A mapping as YAML, its keys in their order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096)
    return text
