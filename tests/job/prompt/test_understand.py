"""Understanding: both prompts of an image, what keeps them from being rendered, and what may surprise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invokeai_daemon.job.prompt.printing import invokeai_text
from invokeai_daemon.job.prompt.tree import Blend, Conjunction, Fragment, Prompt, plain
from invokeai_daemon.job.prompt.understand import SYNTAXES, understand
from tests.job.prompt.trees import anything, conjunctions


def test_brackets_hold_what_not_to_show() -> None:
    seen = understand("a cat [blurry, (dark)1.2] on a mat [grey]", "", "invokeai")
    assert seen.positive == plain("a cat on a mat")
    assert seen.negative == Conjunction((Prompt((Fragment("blurry,"), Fragment("dark", 1.2), Fragment("grey"))),))


def test_brackets_add_to_the_negative_prompt() -> None:
    seen = understand("a cat [blurry]", "dark", "invokeai")
    assert (seen.positive, seen.negative) == (plain("a cat"), plain("dark, blurry"))


def test_brackets_with_a_backslash_are_brackets() -> None:
    assert understand("a \\[cat\\]", "", "invokeai").positive == plain("a [cat]")


@pytest.mark.parametrize(
    ("text", "parts", "weights"),
    [
        ("blue sphere:0.25 red cube:0.75 hybrid", ["blue sphere", "red cube", "hybrid"], (0.25, 0.75, 1)),
        ("a cat:2,a dog:-1", ["a cat", "a dog"], (2, -1)),
    ],
)
def test_weights_behind_colons_blend_as_in_2_3(text: str, parts: list[str], weights: tuple[float, ...]) -> None:
    blend = Blend(tuple(Prompt((Fragment(part),)) for part in parts), weights)
    assert understand(text, "", "invokeai").positive == Conjunction((blend,))


def test_weights_that_sum_up_to_nothing_count_the_same() -> None:
    seen = understand("a cat:1 a dog:-1", "", "invokeai")
    assert isinstance(seen.positive.prompts[0], Blend)
    assert seen.positive.prompts[0].weights == (1, 1)
    assert seen.warnings == ("prompt: the weights of the prompt's parts sum up to 0; each counted the same",)


@pytest.mark.parametrize(
    "text",
    ["portrait: a woman", "a clock at 10:30 in the morning", "16:9 photo of a cat", "a cat\\:2 a dog", "one part:0.5"],
)
def test_other_colons_are_colons(text: str) -> None:
    assert understand(text, "", "invokeai").positive.plain_text == text.replace("\\", "")


def test_what_is_wrong_names_its_key() -> None:
    seen = understand("a <lora:x:1> cat", "b.swap(c)", "invokeai")
    assert [str(problem) for problem in seen.problems] == [
        'prompt: The LoRA "x" is not supported yet. Remove it.',
        "negative_prompt: .swap(…) is not supported yet. Write one of the two, or make two jobs.",
    ]


def test_the_name_of_an_embedding_is_said_to_be_words() -> None:
    seen = understand("a <my-style> cat", "<bad hands.v2>, <3 >", "invokeai")
    assert seen.warnings == (
        'prompt: "<my-style>" names no embedding that can be used; it was read as words',
        'negative_prompt: "<bad hands.v2>" names no embedding that can be used; it was read as words',
    )


@given(anything, anything)
def test_plain_means_plain(prompt: str, negative: str) -> None:
    seen = understand(prompt, negative, "plain")
    assert (seen.positive.plain_text, seen.negative.plain_text) == (prompt, negative)
    assert (seen.problems, seen.warnings) == ((), ())


@given(anything, anything, st.sampled_from(SYNTAXES))
def test_any_prompts_are_understood(prompt: str, negative: str, syntax: str) -> None:
    understand(prompt, negative, syntax)


@given(conjunctions())
def test_what_is_written_for_jobs_is_understood_as_it_was(tree: Conjunction) -> None:
    seen = understand(invokeai_text(tree), "", "invokeai")
    if not seen.problems:
        assert (seen.positive, seen.negative) == (tree, plain(""))
