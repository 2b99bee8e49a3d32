"""Weighted, blended and long prompts: as compel encodes them by itself, and beside each other in one forward."""

from __future__ import annotations

from typing import Any

import compel
import numpy as np
import pytest
import torch

from invokeai_daemon.engine.denoise import pick
from invokeai_daemon.engine.lanes import encode_texts, start_lane
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.texts import weighting
from invokeai_daemon.engine.texts.prompts import Prompts
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.prompt.tree import Conjunction, Fragment, Prompt, plain
from invokeai_daemon.job.prompt.understand import understand
from tests.engine.build import image
from tests.engine.conftest import render, start_lanes

LONG = "a red circle on a blue background, with a small border. " * 7
WEIGHTED = [
    "a red++ circle on a (blue background)1.3",
    "a red circle (on blue)0.5 and (green)0 squares--",
    '("a red circle", "a green+ square").blend(0.7, 0.3)',
    '("a red circle", "a green square").blend(1, -0.5, no_normalize)',
    '("a red circle", "(oil)0.8 painting", "dark").and(1, 0.5, 2)',
    f"{LONG}(yellow star)1.4 {LONG} (dim)0.6",
    f'("{LONG}", "a cat").blend(1, 1)',
    f'("{LONG}", "a cat++").and(1, 0.5)',
    LONG,
]


def tree_of(text: str) -> Conjunction:
    seen = understand(text, "", "invokeai")
    assert not seen.problems
    return seen.positive


@pytest.fixture
def fresh(pipeline: Pipeline) -> Prompts:
    return Prompts(pipeline.prompts.encoders)


@pytest.fixture(scope="module")
def sdxl(xl: Pipeline, plain_xl: Any) -> tuple[Pipeline, Any]:
    return xl, plain_xl


def compels_rows(tokenizer: Any, encoder: Any, text: str, **words: Any) -> torch.Tensor:
    """What compel makes of a text in InvokeAI's syntax, with its own parser."""
    rows: torch.Tensor = compel.Compel(tokenizer, encoder, truncate_long_prompts=False, **words)(text)
    return rows[0]


@pytest.mark.parametrize("text", WEIGHTED)
def test_a_prompt_is_encoded_as_compel_does(fresh: Prompts, plain: Any, text: str) -> None:
    ours = fresh.encode([tree_of(text)])[tree_of(text)]
    expected = compels_rows(plain.tokenizer, plain.text_encoder, text)
    assert ours.rows.shape == expected.shape
    assert torch.allclose(ours.rows, expected, atol=1e-5)
    assert ours.cut == ""


@pytest.mark.parametrize("text", WEIGHTED)
def test_both_encoders_of_sdxl_are_weighted(sdxl: tuple[Pipeline, Any], text: str) -> None:
    ours, plain = sdxl
    encoded = ours.prompts.encode([tree_of(text)])[tree_of(text)]
    kind = compel.ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
    pairs = ((plain.tokenizer, plain.text_encoder), (plain.tokenizer_2, plain.text_encoder_2))
    expected = [compels_rows(*pair, text, returned_embeddings_type=kind) for pair in pairs]
    assert torch.allclose(encoded.rows, torch.cat(expected, dim=-1), atol=1e-5)
    assert encoded.pooled is not None
    words = ours.prompts.encode([tree_of(text).text[:60]])[tree_of(text).text[:60]]
    assert encoded.pooled.shape == words.pooled.shape  # type: ignore[union-attr]


def test_weights_of_one_are_the_plain_text_bit_for_bit(pipeline: Pipeline) -> None:
    images = [image(1, prompt="a red circle"), image(2, prompt="a (red)1 circle"), image(3, prompt="(a red) circle")]
    first, second, third = (lane.conditioning.texts for lane in start_lanes(pipeline, images))
    assert torch.equal(first, second)
    assert torch.equal(first, third)


def test_weights_have_an_effect_and_plain_prompts_have_none(pipeline: Pipeline) -> None:
    images = [
        image(1, seed=1, prompt="a (red)1.5 circle"),
        image(2, seed=1, prompt="a (red)1.5 circle", prompt_syntax="plain"),
        image(3, seed=1, prompt="a (red:1.5) circle", prompt_syntax="a1111"),
    ]
    weighted, words, a1111 = render(pipeline, images)
    assert not np.array_equal(weighted, words)
    assert np.array_equal(weighted, a1111)


def test_brackets_are_the_negative_prompt(pipeline: Pipeline) -> None:
    images = [image(1, seed=1, prompt="a cat [dim]"), image(2, seed=1, prompt="a cat", negative_prompt="dim")]
    one, other = render(pipeline, images)
    assert np.array_equal(one, other)


@pytest.mark.parametrize("words", [{"negative_prompt": "dim"}, {"prompt": "a cat", "negative_prompt": LONG}])
def test_both_prompts_get_the_length_of_the_longer(pipeline: Pipeline, words: dict[str, Any]) -> None:
    [lane] = start_lanes(pipeline, [image(**{"prompt": LONG, **words})])
    rows = lane.conditioning.texts
    assert rows.shape[1] > 77 and rows.shape[1] % 77 == 0
    short = 0 if "prompt" not in words else 1
    text = "a cat" if short else "dim"
    encoded = pipeline.prompts.encode(["", text])
    assert torch.equal(rows[short, 77:154], encoded[""].rows)
    assert torch.equal(rows[short, :77], encoded[text].rows)


def test_lanes_of_different_lengths_share_no_forward_and_give_their_own_bits(pipeline: Pipeline) -> None:
    images = [image(1), image(2, prompt=LONG), image(3, prompt="a red++ circle"), image(4, prompt=LONG, cfg_scale=1.0)]
    lanes = start_lanes(pipeline, images)
    assert pick(lanes) == [lanes[0], lanes[2]]
    together = []
    for each in images:
        together.extend(render(pipeline, [each]))
    for lane in lanes:
        assert lane.conditioning.texts.shape[1] % 77 == 0
    groups = [pick(lanes), pick(lanes[1:2] + lanes[3:])]
    assert sum(map(len, groups)) == 4
    mixed = [picture for group in groups for picture in render(pipeline, [lane.image for lane in group])]
    expected = [together[0], together[2], together[1], together[3]]
    assert all(np.array_equal(one, other) for one, other in zip(mixed, expected, strict=True))


def test_layers_are_left_out_of_weighted_prompts_too(pipeline: Pipeline, plain: Any) -> None:
    tree, encoder = tree_of(WEIGHTED[0]), plain.text_encoder
    ours = pipeline.prompts.encode([tree], 1)[tree].rows
    kind = compel.ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NORMALIZED
    # compel looks for the norm where transformers had it before its version 5.
    object.__setattr__(encoder, "text_model", encoder)
    try:
        expected = compels_rows(plain.tokenizer, encoder, WEIGHTED[0], returned_embeddings_type=kind)
    finally:
        object.__delattr__(encoder, "text_model")
    assert torch.allclose(ours, expected, atol=1e-5)


def test_the_end_of_an_endless_prompt_is_named(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighting, "LONGEST", 150)
    words = "word " * 149
    fits, too_long = words + "end", words + "end beyond the end"
    encoded = Prompts(pipeline.prompts.encoders).encode([fits, too_long])
    assert encoded[fits].cut == ""
    assert encoded[too_long].cut.strip() == "beyond the end"
    assert torch.equal(encoded[fits].rows, encoded[too_long].rows)
    [lane] = start_lanes(pipeline, [image(prompt=words + "(end)1.1 (beyond)1.2")])
    assert lane.warnings == ['the prompt is longer than the model reads; this part had no effect: "beyond"']


@pytest.mark.parametrize("tree", [
    Conjunction((Prompt((Fragment("", 0.5), Fragment("a cat", 0.5))),)),
    Conjunction((Prompt((Fragment("a \\(cat\\)", 0.5),)), Prompt()), (0.5, 2)),
    Conjunction((Prompt((Fragment("! !!", 0.5), Fragment("! " * 90, 0.7))),)),
    plain(". " * 200),
])  # fmt: skip
def test_odd_trees_are_encoded(sdxl: tuple[Pipeline, Any], tree: Conjunction) -> None:
    rows = sdxl[0].prompts.encode([tree])[tree].rows
    assert torch.isfinite(rows).all()
    assert len(rows) % 77 == 0


def test_a_prompt_that_cannot_be_rendered_fails_before_any_step(pipeline: Pipeline) -> None:
    wanted = image(prompt="a cat.swap(dog, 1)")
    with pytest.raises(RenderError, match=r"prompt: \.swap\(…\) has no option \"1\""):
        start_lane(pipeline, wanted, encode_texts(pipeline, [wanted])[0])


def test_what_may_surprise_is_a_warning_of_the_image(pipeline: Pipeline) -> None:
    [lane] = start_lanes(pipeline, [image(prompt='a ("b", "c").blend(1, 1)')])
    assert lane.warnings == ['prompt: ".blend(…)" was read as words: it does not fit what stands around it']


def test_brackets_of_sdxl_are_no_empty_negative_prompt(sdxl: tuple[Pipeline, Any]) -> None:
    ours = sdxl[0]
    one, other = start_lanes(ours, [image(prompt="a cat [dim]"), image(prompt="a cat", negative_prompt="dim")])
    assert torch.equal(one.conditioning.texts, other.conditioning.texts)
    assert one.conditioning.texts[0].abs().sum() > 0


def test_the_result_can_say_how_prompts_are_split_into_tokens(pipeline: Pipeline) -> None:
    words = {"prompt": "a fluffier++ Cat, 8k", "negative_prompt": "", "log_tokenization": True}
    told, silent = start_lanes(pipeline, [image(1, **words), image(2)])
    assert told.tokenization == {
        "prompt": [
            {
                "fragments": [
                    {"text": "a", "weight": 1.0},
                    {"text": "fluffier", "weight": 1.1**2},
                    {"text": "Cat, 8k", "weight": 1.0},
                ],
                "tokens": ["a ", "flu", "f", "fier ", "cat ", ", ", "8 ", "k "],
                "count": 8,
            }
        ],
        "negative_prompt": [{"fragments": [], "tokens": [], "count": 0}],
    }
    assert silent.tokenization is None
