"""The registry's text: read stanza by stanza exactly as it reads as a whole, and changed only where it is changed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invokeai_daemon.errors import ModelError
from invokeai_daemon.models.entries.sheet import Sheet
from invokeai_daemon.models.stanzas import (
    MAX_BYTES,
    Document,
    Mistake,
    Reader,
    Stanza,
    cut,
    outline,
    plain,
)


def reader() -> Reader[dict[str, Any]]:
    return Reader(lambda stanza: (stanza.value, []))


def read(text: str) -> Document[dict[str, Any]]:
    return reader().read(text.encode())


#: Lines that make and break YAML.
LINES = (
    "cat:",
    "dog: {a: 1}",
    "'q': # c",
    "  a: 1",
    "  b: |",
    "    text",
    "  c: [1,",
    "  2]",
    "2]",
    "  d: 'x",
    "y'",
    "y: z'",
    '  e: "x \\',
    "# comment",
    "  # inner",
    "",
    "---",
    "...",
    "%YAML 1.1",
    "- x",
    "? [k]",
    ": v",
    "  <<: {b: 2}",
    "  &x f: *x",
    "a: 1\rb: 2",
    "a: x\u2028b: y",
    "\t",
    "}",
    "{",
    "word",
)


@given(st.lists(st.sampled_from(LINES), max_size=9).map("\n".join))
def test_a_sound_file_reads_in_pieces_as_it_reads_as_a_whole(text: str) -> None:
    document = read(text)
    try:
        whole = outline(text.replace("\r\n", "\n"))
    except Mistake as mistake:
        assert document.broken is not None
        assert document.broken.line == mistake.line
        return
    assert document.broken is None
    assert [(piece.name, piece.line) for piece in document.pieces] == [(name, line) for name, _, line in whole]
    first_of: dict[str, Any] = {}
    for piece, (name, node, _) in zip(document.pieces, whole, strict=True):
        try:
            value = plain(node, 0)
        except Mistake:
            value = None
        wanted = value if isinstance(value, dict) and name not in first_of else None
        first_of.setdefault(name, value)
        assert piece.made == wanted
        assert bool(piece.problems) == (wanted is None)


@given(st.lists(st.sampled_from(LINES), max_size=9).map("\n".join))
def test_a_sheet_that_nothing_was_done_to_is_the_text(text: str) -> None:
    document = read(text)
    if document.broken is None:
        assert Sheet(document).text == document.text


def test_a_stanza_that_did_not_change_is_not_read_again() -> None:
    seen: list[str] = []

    def make(stanza: Stanza) -> tuple[str, list[Any]]:
        seen.append(stanza.name)
        return stanza.name, []

    known = Reader(make)
    known.read(b"cat:\n  a: 1\ndog:\n  a: 1\n")
    document = known.read(b"# moved\n\nbird:\n  a: 1\ncat:\n  a: 1\ndog:\n  a: 2\n")
    assert seen == ["cat", "dog", "bird", "dog"]
    assert [(piece.name, piece.line) for piece in document.pieces] == [("bird", 3), ("cat", 5), ("dog", 7)]


@pytest.mark.parametrize(
    ("bad", "others"),
    [
        ("bad:\n  description: a: b\n", ["cat", "dog"]),
        ("bad:\n  description: 'it's\n", ["cat", "dog"]),
        ("bad:\n  phrases: [a, b\n", ["cat", "dog"]),
        ("bad:\n path: x\n   type: y\n", ["cat", "dog"]),
        ("bad\n", ["cat", "dog"]),
    ],
)
def test_a_stanza_with_broken_yaml_is_named_with_its_line_and_the_others_are_read(bad: str, others: list[str]) -> None:
    document = read(f"cat:\n  a: 1\n{bad}dog:\n  a: 2\n")
    assert document.broken is not None
    assert [piece.name for piece in document.pieces if piece.made is not None] == others
    left_out = document.problems[0]
    assert left_out.key in ("bad", "")
    assert left_out.line is not None and 3 <= left_out.line <= 5


def test_two_models_in_one_line_can_be_read_and_not_changed() -> None:
    sheet = Sheet(read("{cat: {a: 1}, dog: {a: 2}}\n"))
    with pytest.raises(ModelError, match="cat and dog stand in one line"):
        sheet.change("dog", {"a": 3})


def test_a_file_that_cannot_be_cut_is_changed_all_the_same() -> None:
    sheet = Sheet(read("---\ncat: # one\n  a: [1,\n2]\n# about dog\ndog:\n  a: 2\n"))
    sheet.change("cat", {"b": "x"})
    sheet.rename("dog", "tom")
    assert sheet.text == "---\ncat: # one\n  a: [1, 2]\n  b: x\n# about dog\ntom:\n  a: 2\n"


def test_removing_leaves_comments_and_no_growing_gaps() -> None:
    sheet = Sheet(read("cat:\n  a: 1\n\ndog:\n  a: 2\n\n# about bird\nbird:\n  a: 3\n\nlast:\n  a: 4\n"))
    for name in ("cat", "dog", "bird"):
        sheet.remove(name)
    sheet.add("new", {"a": 5, "b": None})
    assert sheet.text.split() == ["#", "about", "bird", "last:", "a:", "4", "new:", "a:", "5"]
    assert "\n\n\n" not in sheet.text


@pytest.mark.parametrize("deep", ["  a: " + "[" * 200_000, "  " + "- " * 50_000 + "a", "  a: " + "{b: " * 50_000])
def test_a_stanza_that_nests_without_end_is_left_out_and_the_others_stay(deep: str) -> None:
    found = read(f"cat:\n  a: 1\nhole:\n{deep}\ndog:\n  a: 2\n")
    assert {piece.name for piece in found.pieces if piece.made is not None} >= {"cat"}
    assert found.broken is not None


def test_a_stanza_of_endless_keys_is_left_out_and_the_others_stay() -> None:
    many = "".join(f"  {number}:\n" for number in range(50_000))
    found = read(f"cat:\n  a: 1\nbig:\n{many}dog:\n  a: 2\n")
    assert [piece.name for piece in found.pieces if piece.made is not None] == ["cat", "dog"]
    (problem,) = found.problems
    assert "keys and values" in problem.message


def test_fifteen_thousand_ordinary_models_are_read_and_more_than_the_limit_says_what_to_do() -> None:
    stanza = "model-{}:\n  path: /data/invokeai/autoimport/lora/some-folder/a-model-of-ordinary-name-{}.safetensors\n"
    stanza += "  source: /data/invokeai/autoimport/lora/some-folder/a-model-of-ordinary-name-{}.safetensors\n"
    stanza += (
        "  format: lycoris\n  type: lora\n  base: sdxl\n  status: ok\n  dialect: kohya\n  hash: blake3:" + "0" * 64
    )
    text = "".join(f"{stanza.format(number, number, number)}\n" for number in range(15_000))
    assert len(cut(text)) == 15_001
    assert len(text) < MAX_BYTES
    found = read(text + "#" * MAX_BYTES)
    assert found.broken is not None
    assert "models.yaml.bak" in found.broken.message
