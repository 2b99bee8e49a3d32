"""InvokeAI's prompt syntax: what compel reads is read here, and what it cannot say is words or a problem."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterable
from itertools import chain, groupby
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings

from invokeai_daemon.job.prompt.invokeai import parse
from invokeai_daemon.job.prompt.printing import invokeai_text
from invokeai_daemon.job.prompt.tree import Attached, Blend, Conjunction, Fragment, Prompt, Remarks, Swap, Window, plain
from invokeai_daemon.job.prompt.understand import read
from tests.job.prompt.trees import anything, conjunctions


def tree(text: str) -> Conjunction:
    remarks = Remarks()
    parsed = parse(text, remarks)
    assert remarks.problems == []
    return parsed


def fragments(text: str) -> list[tuple[str, float]]:
    (prompt,) = tree(text).prompts
    assert isinstance(prompt, Prompt)
    return [(fragment.text, round(fragment.weight, 6)) for fragment in prompt.fragments]


def remarks_of(text: str) -> Remarks:
    remarks = Remarks()
    parse(text, remarks)
    return remarks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a fluffy++ cat", [("a", 1), ("fluffy", 1.21), ("cat", 1)]),
        ("a cat- and dog--", [("a", 1), ("cat", 0.9), ("and", 1), ("dog", 0.81)]),
        ("(a fluffy cat)1.3 here", [("a fluffy cat", 1.3), ("here", 1)]),
        ('"a fluffy cat"0.5', [("a fluffy cat", 0.5)]),
        ("(picking apricots+)++", [("picking", 1.21), ("apricots", 1.331)]),
        ("((a)1.5 b)2", [("a", 3), ("b", 2)]),
        ("(a cat).attend(1.2) cat.attend(--)", [("a cat", 1.2), ("cat", 0.81)]),
        ("a (big) cat", [("a big cat", 1)]),
        ("(a, b)1.2", [("a , b", 1.2)]),
        ("a,(b)++", [("a,", 1), ("b", 1.21)]),
        ("apricots 1.3 8k (x) 1.3", [("apricots 1.3 8k x 1.3", 1)]),
        ("a \\(cat\\)", [("a (cat)", 1)]),
        ("(a \\(big\\) cat)1.2", [("a (big) cat", 1.2)]),
        ("a well-lit 16:9 photo - really", [("a well-lit 16:9 photo - really", 1)]),
        ("(a cat", [("(a cat", 1)]),
        ("(a - b)++", [("(a - b)++", 1)]),
        ("(a)0", [("a", 0)]),
        ("[a] {b|c}", [("[a] {b|c}", 1)]),
        ("", []),
        ('() ""++ (,)1.2', [(",", 1.2)]),
    ],
)
def test_weights(text: str, expected: list[tuple[str, float]]) -> None:
    assert fragments(text) == expected


def test_a_blend_mixes_prompts_that_have_weights_of_their_own() -> None:
    blend = Blend((Prompt((Fragment("blue"), Fragment("sphere", 1.1))), Prompt((Fragment("red cube"),))), (0.25, 0.75))
    assert tree('("blue sphere+", "red cube").blend(0.25, 0.75)') == Conjunction((blend,))
    assert tree("(a, b).blend()") == Conjunction((Blend((Prompt((Fragment("a"),)), Prompt((Fragment("b"),))), (1, 1)),))


def test_a_blend_may_leave_its_weights_as_they_are() -> None:
    (blend,) = tree('("a b", "c").blend(1, -0.5, no_normalize)').prompts
    assert isinstance(blend, Blend)
    assert (blend.weights, blend.is_normalized) == ((1, -0.5), False)


def test_a_conjunction_puts_prompts_side_by_side() -> None:
    both = (Prompt((Fragment("a cat"),)), Prompt((Fragment("a (dog)", 1.0),)))
    assert tree('("a cat", "a \\(dog\\)").and(1, 0.5)') == Conjunction(both, (1, 0.5))
    assert tree('("a cat", "a \\(dog\\)").add()') == Conjunction(both, (1, 1))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('("a", "b").blend(1)', "2 prompts and 1 weight stand in .blend(…)."),
        ('("a", "b").and(1, x)', '"x" is no weight of .and(…).'),
        ('("a", "b").and(1, no_normalize)', '"no_normalize" is no weight of .and(…).'),
        ('("a", "b").blend(1, -1)', "The weights of .blend(…) sum up to 0."),
        ('("a", "b").blend(1, 1) in oil', 'Nothing can follow .blend(…), but "in oil" does.'),
        ("a cat.swap(dog, t_strat=0.3) here", '.swap(…) has no option "t_strat".'),
        ("a cat.swap(dog, 0.3) here", '.swap(…) has no option "0.3".'),
        ("a cat.swap(dog, s_end=2)", '"s_end=2" is no option of .swap(…).'),
        ("a (cat.swap(dog)).swap(cow)", "A .swap(…) stands in another one."),
        ('("a cat.swap(dog)", "b").blend(1, 1)', "A .swap(…) cannot stand in .blend(…)."),
        ('("a cat.swap(dog)", "b").and()', "A .swap(…) cannot stand in .and(…)."),
    ],
)
def test_what_cannot_be_rendered_is_a_problem(text: str, problem: str) -> None:
    assert [message for message, _ in remarks_of(text).problems] == [problem]


def test_a_swap_has_words_before_and_after_it() -> None:
    [prompt] = tree('a ("fluffy cat").swap(barking dog+, t_start=0.3, s_end=0.1) on (a mat)1.2').prompts
    assert isinstance(prompt, Prompt)
    edited = (Fragment("barking"), Fragment("dog", 1.1))
    swap = Swap((Fragment("fluffy cat"),), edited, Window(t_start=0.3, s_end=0.1))
    assert prompt.parts == (Fragment("a"), swap, Fragment("on"), Fragment("a mat", 1.2))
    assert prompt.fragments == (Fragment("a fluffy cat on"), Fragment("a mat", 1.2))
    assert prompt.edited == (Fragment("a barking"), Fragment("dog", 1.1), Fragment("on"), Fragment("a mat", 1.2))


def test_words_can_be_taken_out_and_weighted_with_a_swap() -> None:
    [prompt] = tree("(a (red).swap() cat)1.5").prompts
    assert isinstance(prompt, Prompt)
    assert (prompt.fragments, prompt.edited) == ((Fragment("a red cat", 1.5),), (Fragment("a cat", 1.5),))


def test_shape_freedom_is_an_older_word_for_the_end_of_the_shapes() -> None:
    [swap] = tree("a cat.swap(dog, shape_freedom=0.125)").prompts[0].swaps  # type: ignore[union-attr]
    assert swap.window == Window(s_end=0.5)


@pytest.mark.parametrize(
    ("text", "loras", "words"),
    [
        ("a cat withLora(ink-scenery, 0.8)", [Attached("ink-scenery", 0.8)], "a cat"),
        ("useLora(x) a cat", [Attached("x")], "a cat"),
        ('withLora(x)("a", "b").blend(1, 1) withLora(y,-1)', [Attached("x"), Attached("y", -1)], "a b"),
        ("withLora(my lora.v2.safetensors, 1) a cat", [Attached("my lora.v2", 1)], "a cat"),
        ("a (big withLora(x, 2) cat)1.3 withLora(x, 2)", [Attached("x", 2)], "a big cat"),
        ('("a withLora(x)", "b").and()', [Attached("x")], "a b"),
        ("a ( withLora(x) - cat", [Attached("x")], "a ( - cat"),
        ('"withLora(x) = y" withLora', [], '"withLora(x) = y" withLora'),
    ],
)
def test_loras_are_no_words(text: str, loras: list[Attached], words: str) -> None:
    remarks = remarks_of(text)
    assert (remarks.attached, remarks.problems) == (loras, [])
    assert tree(text).text.split() == words.split()


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ('a ("b", "c").blend(1, 1)', '".blend(…)" was read as words: it does not fit what stands around it'),
        ("a (cat:1.2)", '"(cat:1.2)" was read as words: prompt_syntax = "a1111" makes it a weight'),
        ('("a", "b").and() in oil', 'nothing can follow .and(…); this had no effect: "in oil"'),
    ],
)
def test_what_may_surprise_is_a_warning(text: str, warning: str) -> None:
    assert remarks_of(text).warnings == [warning]


@given(conjunctions())
def test_a_tree_that_is_written_reads_back_as_itself(tree: Conjunction) -> None:
    remarks = Remarks()
    assert read(invokeai_text(tree), "invokeai", remarks) == tree
    assert parse(invokeai_text(tree, old=False), remarks) == tree
    assert remarks.problems == []


@given(anything)
def test_every_text_is_read(text: str) -> None:
    remarks = Remarks()
    tree = parse(text, remarks)
    assert parse(invokeai_text(tree, old=False), Remarks()).text.split() == tree.text.split()


@pytest.mark.parametrize(
    "text", ["", "a cat", "a  cat,\nan 8k well-lit dog: 16:9; [x] {y} <z> 日本 'tis 3.5 (no", " a "]
)
def test_a_text_without_syntax_stays_itself(text: str) -> None:
    assert tree(text) == plain(text)


@pytest.mark.parametrize(
    "text",
    ["(" * 30000, "( " * 30000, "(a" * 9000 + ")" * 9000, '"' * 30001, "(a).swap(" * 7000, '("a", ' * 9000,
     "withLora(" * 6000 + " " * 6000, "(a)++" * 10000, "(a:" + "1" * 60000, "(a)" + "9" * 400, "\\" * 60000,
     "a+" * 30000, "a," * 30000],
)  # fmt: skip
def test_long_and_deep_texts_take_no_time(text: str) -> None:
    started = time.process_time()
    parse(text, Remarks())
    assert time.process_time() - started < 2


# --- compel itself -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compel_parser() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from compel.prompt_parser import PromptParser
    return PromptParser()


def in_our_words(parsed: Any) -> Conjunction:
    """compel's tree as ours."""

    def words(fragments: Any) -> tuple[Fragment, ...]:
        return tuple(Fragment(each.text, each.weight) for each in fragments if each.text)

    def swap(each: Any) -> Swap:
        return Swap(words(each.original), words(each.edited), Window(**each.options))

    def prompt(flat: Any) -> Prompt:
        parts = ((swap(each),) if hasattr(each, "edited") else words([each]) for each in flat.children)
        return Prompt(tuple(chain(*parts)))

    def part(each: Any) -> Prompt | Blend:
        if type(each).__name__ == "Blend":
            return Blend(tuple(map(prompt, each.prompts)), tuple(each.weights), each.normalize_weights)
        return prompt(each)

    parts = [part(each) for each in parsed.prompts]
    return Conjunction(tuple(parts) or (Prompt(),), tuple(parsed.weights) or (1.0,))


def without_spaces(tree: Conjunction) -> Conjunction:
    """White space means nothing to CLIP's tokenizer, and texts that are nothing but text keep theirs here."""

    def words(fragments: Iterable[Fragment]) -> tuple[Fragment, ...]:
        kept = [each for each in fragments if each.text.strip()]
        by_weight = groupby(kept, key=lambda each: each.weight)
        texts = ((weight, ("".join(each.text.split()) for each in group)) for weight, group in by_weight)
        return tuple(Fragment("".join(each), weight) for weight, each in texts)

    def prompt(each: Prompt) -> Prompt:
        parts: list[Fragment | Swap] = []
        for is_swap, group in groupby(each.parts, key=lambda part: isinstance(part, Swap)):
            if is_swap:
                swaps = [part for part in group if isinstance(part, Swap)]
                parts += [Swap(words(one.original), words(one.edited), one.window) for one in swaps]
            else:
                parts += words(part for part in group if isinstance(part, Fragment))
        return Prompt(tuple(parts))

    def part(each: Prompt | Blend) -> Prompt | Blend:
        if isinstance(each, Prompt):
            return prompt(each)
        return Blend(tuple(map(prompt, each.prompts)), each.weights, each.is_normalized)

    return Conjunction(tuple(map(part, tree.prompts)), tree.weights)


#: compel leaves these backslashes in the words, and takes two of them away in free words.
_ITS_OWN = ("\\\\", "\\,", "\\.", "\\+", "\\-", "\\=", "\\[", "\\]", "\\:")


def assert_as_compel(compel_parser: Any, text: str) -> None:
    remarks = Remarks()
    ours = parse(text, remarks)
    # It fails at white space other than these.
    is_exotic = any(mark.isspace() and mark not in " \n" for mark in text)
    # To compel, a LoRA that is not written so is words; here it is a problem of the prompt, or a name all the same.
    is_named = all(re.fullmatch(r"[\w-]+", lora.name, re.ASCII) for lora in remarks.attached)
    is_weighted = all(lora.weight is None or abs(lora.weight) < inf for lora in remarks.attached)
    if any(mark in text for mark in _ITS_OWN) or remarks.problems or is_exotic or not (is_named and is_weighted):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = in_our_words(compel_parser.parse_conjunction(text.replace("\n", " ")))
    assert without_spaces(ours) == without_spaces(theirs)


@pytest.mark.parametrize(
    "text",
    [
        "a tall thin man picking apricots+",
        "a tall thin man (picking apricots)++",
        "a tall thin man (picking (apricots)1.3)1.1, 8k.",
        '"a cat"++, (a dog.)1.1 e.g. (this)0.5... and C++',
        '("blue sphere", "red cube").blend(0.25, 0.75)',
        '("a \\"big\\" cat", "(dogs)1.2 and (more").blend(1, 1, no_normalize)',
        '(one, "two three", (four five)).and(1, 2, 0.5)',
        "(a cat)1. (b).5 (c)-0.5 +2 -- (d) + e",
        "un(balanced)1.2 (paren theses( )",
        'a \\(cat\\) \\"x\\" (\\)b)1.1',
        "+ - ++a -b a-b a+b 5-3 -5 (-5)1.2 (+ a)1.2",
        'a ("fluffy (grey)1.2 cat").swap(barking dog+, t_start=0.3, s_end=0.1) on (a mat)1.2',
        "(a (red).swap() cat)1.5 useLora(x, 2) (one).swap((two, three)) cat.swap(dog, shape_freedom=0.3)",
    ],
)
def test_it_is_read_as_compel_reads_it(compel_parser: Any, text: str) -> None:
    assert_as_compel(compel_parser, text)


@settings(max_examples=200, deadline=None)
@given(text=anything)
def test_any_text_is_read_as_compel_reads_it(compel_parser: Any, text: str) -> None:
    assert_as_compel(compel_parser, text)
