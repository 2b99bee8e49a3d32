"""`check` says how prompts are understood, and what of them cannot be rendered."""

from __future__ import annotations

from invokeai_daemon.cli.check import prompts
from invokeai_daemon.job.plan import Image, ModelRef, Plan


def lines(prompt: str, negative: str = "", syntax: str = "invokeai") -> list[str]:
    image = Image(1, 1, prompt, negative, 64, 64, 1, 7.5, "euler", prompt_syntax=syntax)
    return prompts(Plan("job", ModelRef("demo", "", "sd-1"), (image,)))


def test_words_need_no_explanation() -> None:
    assert lines("a cat, 8k", "blurry") == []


def test_weights_blends_and_brackets_are_explained() -> None:
    assert lines("a fluffy++ cat [dim]") == ['prompt: "a" "fluffy" × 1.21 "cat"', 'negative_prompt: "dim"']
    assert lines("a (cat:1.3)", syntax="a1111") == ['prompt: "a" "cat" × 1.3']
    assert lines('("a", "b").blend(1, 0.5)') == ['prompt: a blend: ("a") × 1 and ("b") × 0.5']
    assert lines('("a", "b+").and()') == ['prompt: side by side: ("a") × 1 and ("b" × 1.1) × 1']


def test_surprises_are_notes() -> None:
    assert lines("a <style> (cat:1.2)") == [
        'prompt: "a <style> cat:1 . 2"',
        'Note: prompt: "(cat:1.2)" was read as words: prompt_syntax = "a1111" makes it a weight.',
    ]
