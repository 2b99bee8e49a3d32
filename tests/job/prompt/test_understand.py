"""Understanding: both prompts of an image, what keeps them from being rendered, and what may surprise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invokeai_daemon.job.prompt.printing import invokeai_text
from invokeai_daemon.job.prompt.tree import Blend, Conjunction, Fragment, Prompt, plain
from invokeai_daemon.job.prompt.understand import SYNTAXES, as_a1111, as_invokeai, understand, with_prompts_loras
from invokeai_daemon.job.schema.adapters import Lora
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
    seen = understand("a <lora:x:11> <hypernet:h:1> cat", "b.swap(c)", "invokeai")
    assert [str(problem) for problem in seen.problems] == [
        'prompt: The hypernetwork "h" is not supported. Remove it.',
        'prompt: The LoRA "x" has a weight that is no number from −10 to 10. '
        "Write <lora:name:0.8>, or withLora(name, 0.8) in InvokeAI's syntax.",
        "negative_prompt: A .swap(…) can stand in the prompt only. Move it there.",
    ]


@pytest.mark.parametrize(
    "text",
    ["a withLora(x, high) cat", "a withLora(x,) cat", "a withLora() cat", "a withLora(, 1) cat", "a <lora::1> cat"],
)
def test_a_lora_needs_a_name_and_a_number(text: str) -> None:
    assert len(understand(text, "", "invokeai").problems) == 1


def test_a_prompt_names_loras_in_either_syntax() -> None:
    mixed = "a cat withLora(ink.safetensors, 0.5), <lora:paper:0.4:0.6>"
    expected = (Lora(name="paper", weight=0.6, text_encoder_weight=0.4), Lora(name="ink", weight=0.5))
    seen = understand(mixed, "", "invokeai")
    assert (seen.loras, seen.positive.text) == (expected, "a cat ,")
    seen = understand(mixed, "", "a1111")
    assert (seen.loras, seen.positive.text) == (expected[:1], "a cat withLora ink.safetensors, 0.5 ,")


def test_a_name_in_brackets_stays_whole_beside_the_character_of_an_embedding() -> None:
    seen = understand("\U000f0000 in <ink style>++", "", "invokeai")
    assert seen.positive.prompts[0] == Prompt((Fragment("\U000f0000 in"), Fragment("<ink style>", 1.1**2)))


def test_loras_have_no_effect_in_a_negative_prompt() -> None:
    seen = understand("a cat [withLora(x)]", "dim <lora:y:1>", "invokeai")
    assert (seen.loras, seen.negative.text) == ((), "dim ,")
    assert seen.warnings == ('negative_prompt: LoRAs have an effect in the prompt only; left out: "y", "x"',)


def test_what_a_job_lists_is_not_taken_from_its_prompt_again() -> None:
    seen = understand("a cat withLora(x, 0.5) withLora(y)", "", "invokeai")
    of_job = Lora(name="x", weight=0.7)
    once = with_prompts_loras((of_job,), seen)
    assert once == (of_job, Lora(name="y"))
    assert with_prompts_loras(once, seen) == once


def test_pictures_record_prompts_without_the_loras_that_they_record_beside_them() -> None:
    assert as_invokeai("a \\[cat\\] withLora(x, 0.5)", "", "invokeai", old=True) == ("a \\[cat\\]", "")
    assert as_invokeai("a cat++ <lora:x:1>", "<lora:y:1>b", "a1111", old=False) == ("a cat\\+\\+", "b")
    assert as_a1111("a cat <lora:x:1>", "b", "a1111") == ("a cat", "b")
    assert as_a1111("a cat <lora:x:1>", "b", "plain") == ("a cat <lora:x:1>", "b")


def test_no_syntax_takes_the_name_of_an_embedding_apart() -> None:
    for text in ("a (<my-style.v2>)1.2 cat", "a (<my, style v1.3>)1.2 cat"):
        [prompt] = understand(text, "", "invokeai").positive.prompts
        assert isinstance(prompt, Prompt)
        assert Fragment(text[text.index("<") : text.index(">") + 1], 1.2) in prompt.fragments


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
