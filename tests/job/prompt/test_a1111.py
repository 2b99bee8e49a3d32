"""AUTOMATIC1111's prompt syntax, read into the same tree."""

from __future__ import annotations

import time

import pytest
from hypothesis import given

from invokeai_daemon.job.prompt.a1111 import parse
from invokeai_daemon.job.prompt.printing import a1111_text
from invokeai_daemon.job.prompt.tree import Attached, Conjunction, Fragment, Prompt, Remarks, plain
from tests.job.prompt.trees import anything, conjunctions


def fragments(text: str) -> list[tuple[str, float]]:
    (prompt,) = parse(text, Remarks()).prompts
    assert isinstance(prompt, Prompt)
    return [(fragment.text, round(fragment.weight, 4)) for fragment in prompt.fragments]


def remarks_of(text: str) -> Remarks:
    remarks = Remarks()
    parse(text, remarks)
    return remarks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a (red) cat", [("a", 1), ("red", 1.1), ("cat", 1)]),
        ("a ((red)) cat", [("a", 1), ("red", 1.21), ("cat", 1)]),
        ("a [red] [[cat]]", [("a", 1), ("red", 0.9091), ("cat", 0.8264)]),
        ("a (red:1.2), cat", [("a", 1), ("red", 1.2), (", cat", 1)]),
        ("(a (red:1.5) cat:0.5)", [("a", 0.5), ("red", 0.75), ("cat", 0.5)]),
        ("a \\(cat\\) \\[x\\] (b\\):1.3)", [("a (cat) [x]", 1), ("b)", 1.3)]),
        ("(unbalanced, cat", [("unbalanced, cat", 1.1)]),
        ("stray) cat] :1.2) (x:y)", [("stray) cat] :1.2)", 1), ("x:y", 1.1)]),
        ("(a: 1.25 )", [("a", 1.25)]),
        ("(a:-1)", [("a", 0)]),
        ("masterpiece, (a:1) cat", [("masterpiece, a cat", 1)]),
    ],
)
def test_weights(text: str, expected: list[tuple[str, float]]) -> None:
    assert fragments(text) == expected


def test_break_makes_prompts_that_stand_side_by_side() -> None:
    parts = (Prompt((Fragment("a cat"),)), Prompt((Fragment("a"), Fragment("dog", 1.2))))
    assert parse("a cat BREAK a (dog:1.2) BREAK", Remarks()) == Conjunction(parts, (1, 1))
    assert parse("BREAKFAST", Remarks()) == plain("BREAKFAST")


def test_and_has_weights_and_says_that_it_is_another_one() -> None:
    parts = (Prompt((Fragment("a cat"),)), Prompt((Fragment("a dog"),)))
    remarks = Remarks()
    assert parse("a cat AND a dog :0.5", remarks) == Conjunction(parts, (1, 0.5))
    assert remarks.warnings == ["AND was read as InvokeAI's .and(…): AUTOMATIC1111 would denoise each part by itself"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<hypernet:y:1>", 'The hypernetwork "y" is not supported.'),
        ("a [cat:dog:0.5]", 'Prompt editing is not supported yet, as in "[cat:dog:0.5]".'),
        ("a [dog:10] [cat|dog]", 'Prompt editing is not supported yet, as in "[dog:10]".'),
    ],
)
def test_what_cannot_be_rendered_is_a_problem(text: str, problem: str) -> None:
    assert remarks_of(text).problems[0][0] == problem


@pytest.mark.parametrize(
    ("text", "lora"),
    [
        ("a cat <lora:ink scenery:0.8>", Attached("ink scenery", 0.8)),
        ("a <lyco:x> cat", Attached("x")),
        ("<lora:x_v1.0:0.5:0.8> a cat", Attached("x_v1.0", 0.8, 0.5)),
        ("a cat<lora:x:te=0.5:unet=1:dyn=4>", Attached("x", 1, 0.5)),
        ("a cat<lora:x:0.7:lbw=1,0,1>", Attached("x", 0.7)),
    ],
)
def test_loras_are_no_words(text: str, lora: Attached) -> None:
    remarks = remarks_of(text)
    assert (remarks.attached, remarks.problems) == ([lora], [])
    assert parse(text, Remarks()).text.split() == ["a", "cat"]


@pytest.mark.parametrize("text", ["", "a cat, 8k:  16:9", "C++ (x)".replace("(x)", ""), '"quoted" a++ <3'])
def test_a_text_without_syntax_stays_itself(text: str) -> None:
    remarks = Remarks()
    assert parse(text, remarks).plain_text in (text, " ".join(text.split()))
    assert remarks == Remarks()


@given(conjunctions())
def test_weights_that_are_written_read_back(tree: Conjunction) -> None:
    special = any(mark in tree.text for mark in (":", "<", "AND", "BREAK", "|"))
    if len(tree.prompts) > 1 or not isinstance(tree.prompts[0], Prompt) or tree.swapped or special:
        return
    assert parse(a1111_text(tree), Remarks()) == tree


@given(anything)
def test_every_text_is_read(text: str) -> None:
    parse(text, Remarks())


@pytest.mark.parametrize(
    "text",
    ["(" * 60000, "(a" * 30000, "[" * 60000, "[|" * 30000, "(a:" + "1" * 60000, "a AND " * 10000, "<lora:" * 10000,
     "((a)b)" * 10000, "\\" * 60001, ":" * 60000, "a :" + " " * 60000, "[" + ":1" * 30000],
)  # fmt: skip
def test_long_and_deep_texts_take_no_time(text: str) -> None:
    started = time.process_time()
    parse(text, Remarks())
    assert time.process_time() - started < 2
