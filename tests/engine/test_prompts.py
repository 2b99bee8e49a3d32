"""Prompts: the conditioning is diffusers', texts are encoded once, and their bits do not depend on their neighbours."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.texts import prompts
from invokeai_daemon.engine.texts.prompts import Prompts

TEXTS = ["", "a red circle", "ein grüner Kreis, 日本", "word " * 75, "( [{<|endoftext|>"]


@pytest.fixture
def fresh(pipeline: Pipeline) -> Prompts:
    """Prompts that remember nothing yet."""
    return Prompts(pipeline.prompts.encoders)


@pytest.mark.parametrize("text", TEXTS)
def test_conditioning_is_that_of_diffusers(fresh: Prompts, plain: Any, text: str) -> None:
    with torch.inference_mode():
        expected, _ = plain.encode_prompt(text, torch.device("cpu"), 1, do_classifier_free_guidance=False)
    assert torch.allclose(fresh.encode([text])[text].rows, expected[0], atol=1e-5)


def test_texts_encoded_together_have_the_bits_they_have_alone(fresh: Prompts, pipeline: Pipeline) -> None:
    together = fresh.encode(TEXTS)
    for text in TEXTS:
        alone = Prompts(pipeline.prompts.encoders).encode([text])
        assert torch.equal(alone[text].rows, together[text].rows)


def test_a_text_is_encoded_once(fresh: Prompts, pipeline: Pipeline) -> None:
    sizes: list[int] = []
    hook = pipeline.prompts.encoders[0].model.register_forward_hook(
        lambda module, inputs, output: sizes.append(len(output[0]))
    )
    try:
        fresh.encode(["a", "b", "a"])
        fresh.encode(["b", "c"])
    finally:
        hook.remove()
    assert sizes == [2, 1]


def test_the_least_recently_used_text_is_forgotten(fresh: Prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "REMEMBERED", 2 * 77 * 32 * 4)
    fresh.encode(["a", "b"])
    fresh.encode(["a"])
    fresh.encode(["c"])
    assert [text for text, _ in fresh._known] == ["a", "c"]


def test_more_texts_than_are_remembered_are_all_encoded(fresh: Prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "REMEMBERED", 2 * 77 * 32 * 4)
    assert list(fresh.encode(["a", "b", "c"])) == ["a", "b", "c"]
