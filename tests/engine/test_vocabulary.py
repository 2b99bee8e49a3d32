"""Embeddings in prompts: diffusers' pictures with the same vectors, and nothing of them stays in the models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import compel
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from invokeai_daemon.engine.lanes import texts_of
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.texts.prompts import Prompts
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.plan import Image, ModelRef
from tests.engine.build import LARGE_WIDTH, TEXT_WIDTH, image
from tests.engine.conftest import difference, load_plainly, render, render_plainly, start_lanes

PROMPT = "a <gold>+ circle, <gold>, on (blue <gold>)0.7 " + "and a small border " * 25


@pytest.fixture(scope="module")
def gold(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """An embedding of three vectors."""
    path = tmp_path_factory.mktemp("embeddings") / "gold.safetensors"
    save_file({"<gold>": vectors(3, TEXT_WIDTH)}, path)
    return ModelRef("gold", str(path), "sd-1", "embedding", asked="<gold>")


def vectors(count: int, width: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(count))


def with_gold(pipeline: Pipeline, gold: ModelRef, **words: Any) -> Image:
    return pipeline.prompts.with_embeddings(image(**words), [gold])


@pytest.fixture(scope="module")
def plain_with_gold(model: ModelRef, gold: ModelRef) -> Any:
    plain = load_plainly(model)
    plain.load_textual_inversion(gold.path, token="<gold>")
    return plain


def test_a_picture_is_that_of_diffusers_with_the_embedding(
    pipeline: Pipeline, plain_with_gold: Any, gold: ModelRef
) -> None:
    words = {"seed": 5, "prompt": "a <gold> circle", "negative_prompt": "no<gold>, not <gold>"}
    [ours] = render(pipeline, [with_gold(pipeline, gold, **words)])
    assert difference(ours, render_plainly(plain_with_gold, image(**words))) <= 3
    [without] = render(pipeline, [image(**words)])
    assert difference(ours, without) > 8


def test_weights_and_long_prompts_hold_embeddings_as_compel_does(
    pipeline: Pipeline, plain_with_gold: Any, gold: ModelRef
) -> None:
    manager = compel.DiffusersTextualInversionManager(plain_with_gold)
    theirs = compel.Compel(
        plain_with_gold.tokenizer,
        plain_with_gold.text_encoder,
        textual_inversion_manager=manager,
        truncate_long_prompts=False,
    )
    blend = '("a <gold>", "a square").blend(0.7, 0.3)'
    for text in ("a <gold>+ circle", "a (red <gold>)0.6 circle", blend, PROMPT):
        [lane] = start_lanes(pipeline, [with_gold(pipeline, gold, prompt=text, cfg_scale=1.0)])
        assert torch.allclose(lane.conditioning.texts, theirs(text), atol=1e-5)


def test_nothing_is_changed_by_embeddings(pipeline: Pipeline, gold: ModelRef) -> None:
    [encoder] = pipeline.prompts.encoders
    before = {name: value.clone() for name, value in encoder.model.state_dict().items()}
    size = len(encoder.tokenizer.tokenizer)
    [first] = render(pipeline, [image(prompt="a <gold> circle")])
    render(pipeline, [with_gold(pipeline, gold, prompt="a <gold> circle")])
    after = encoder.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not encoder.model.get_input_embeddings()._forward_hooks
    assert len(encoder.tokenizer.tokenizer) == size
    [again] = render(pipeline, [image(prompt="a <gold> circle")])
    assert np.array_equal(first, again)


def test_bare_words_mean_an_embedding_where_the_plan_says_so(pipeline: Pipeline, gold: ModelRef) -> None:
    bare = ModelRef("gold", gold.path, "sd-1", "embedding", asked="Gold")
    texts = ["a Gold circle of marigold, golden gold-leaf", "a <gold> circle of marigold, golden gold-leaf"]
    one, other = (
        pipeline.prompts.with_embeddings(image(prompt=text), [named])
        for text, named in zip(texts, (bare, gold), strict=True)
    )
    assert one == other
    assert pipeline.prompts.readable(one.prompt) == "a gold circle of marigold, golden gold-leaf"


def test_tokens_have_the_embeddings_name(pipeline: Pipeline, gold: ModelRef) -> None:
    wanted = with_gold(pipeline, gold, prompt="a (<gold>)1.2 x", log_tokenization=True)
    [lane] = start_lanes(pipeline, [wanted])
    assert lane.tokenization is not None
    [said] = lane.tokenization["prompt"]
    assert said["tokens"] == ["a ", "gold[0] ", "gold[1] ", "gold[2] ", "x "]
    assert [each["text"] for each in said["fragments"]] == ["a", "gold", "x"]


def test_a_prompt_that_is_full_of_embeddings_is_long(pipeline: Pipeline, gold: ModelRef) -> None:
    [lane] = start_lanes(pipeline, [with_gold(pipeline, gold, prompt="<gold> " * 26)])
    assert lane.conditioning.texts.shape[1] == 2 * 77


def test_an_embedding_for_other_models_says_so(pipeline: Pipeline, tmp_path: Path) -> None:
    save_file({"<x>": vectors(1, 20)}, tmp_path / "x.safetensors")
    wide = ModelRef("x", str(tmp_path / "x.safetensors"), "sd-1", "embedding", asked="<x>")
    with pytest.raises(RenderError, match='The embedding "x" has vectors of width 20'):
        pipeline.prompts.with_embeddings(image(prompt="a <x>"), [wide])


# SDXL: two text encoders


@pytest.fixture(scope="module")
def sdxl(xl: Pipeline, plain_xl: Any) -> tuple[Pipeline, Any]:
    return xl, plain_xl


def test_both_text_encoders_of_sdxl_get_their_own_vectors(sdxl: tuple[Pipeline, Any], tmp_path: Path) -> None:
    # One of its own: diffusers leaves the text encoders larger than they were.
    ours, plain = sdxl[0], load_plainly(sdxl[0].model)
    both = {"clip_l": vectors(2, TEXT_WIDTH), "clip_g": vectors(2, LARGE_WIDTH)}
    save_file(both, tmp_path / "two.safetensors")
    two = ModelRef("two", str(tmp_path / "two.safetensors"), "sdxl", "embedding", asked="<two>")
    words = {"seed": 5, "prompt": "a <two> circle", "negative_prompt": "dim"}
    pairs = (("clip_l", plain.tokenizer, plain.text_encoder), ("clip_g", plain.tokenizer_2, plain.text_encoder_2))
    for name, tokenizer, encoder in pairs:
        plain.load_textual_inversion(both[name], token="<two>", text_encoder=encoder, tokenizer=tokenizer)
    [picture] = render(ours, [ours.prompts.with_embeddings(image(**words), [two])])
    assert difference(picture, render_plainly(plain, image(**words))) <= 3


def test_the_second_text_encoder_can_read_another_text(sdxl: tuple[Pipeline, Any]) -> None:
    ours, plain = sdxl
    words = {"seed": 6, "prompt": "a red circle", "negative_prompt": "dim"}
    styles = {"style_prompt": "oil on canvas", "negative_style_prompt": "a photo"}
    [picture] = render(ours, [image(**words, **styles)])
    theirs = {"prompt_2": styles["style_prompt"], "negative_prompt_2": styles["negative_style_prompt"]}
    assert difference(picture, render_plainly(plain, image(**words), **theirs)) <= 3
    [without] = render(ours, [image(**words)])
    assert difference(picture, without) > 10


def test_weights_and_lengths_of_style_prompts_are_their_own(sdxl: tuple[Pipeline, Any]) -> None:
    ours, plain = sdxl
    style, prompt = "oil++ on (canvas)0.5 " + "with thick paint, " * 30, "a (red)1.2 circle"
    [lane] = start_lanes(ours, [image(prompt=prompt, style_prompt=style, cfg_scale=1.0)])
    kind = compel.ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
    texts = ((plain.tokenizer, plain.text_encoder, prompt), (plain.tokenizer_2, plain.text_encoder_2, style))
    first, second = (
        compel.Compel(tokenizer, encoder, truncate_long_prompts=False, returned_embeddings_type=kind)(text)[0]
        for tokenizer, encoder, text in texts
    )
    [rows] = lane.conditioning.texts
    assert len(rows) == len(second) > len(first) == 77
    assert torch.allclose(rows[:77, :TEXT_WIDTH], first, atol=1e-5)
    assert torch.allclose(rows[:, TEXT_WIDTH:], second, atol=1e-5)


def test_a_negative_style_prompt_alone_is_no_empty_negative_prompt(sdxl: tuple[Pipeline, Any]) -> None:
    ours, plain = sdxl
    [none, styled] = start_lanes(ours, [image(), image(negative_style_prompt="a photo")])
    assert not none.conditioning.texts[0].any()
    assert styled.conditioning.texts[0].any()
    [picture] = render(ours, [image(seed=7, negative_style_prompt="a photo")])
    assert difference(picture, render_plainly(plain, image(seed=7), negative_prompt_2="a photo")) <= 3


def test_a_refiner_reads_the_style(sdxl: tuple[Pipeline, Any]) -> None:
    refiner = Prompts(sdxl[0].prompts.encoders[1:])
    [lane] = start_lanes(sdxl[0], [image(style_prompt="oil", cfg_scale=1.0)])
    [text] = texts_of(image(style_prompt="oil", cfg_scale=1.0))
    assert torch.equal(refiner.encode([text])[text].rows, refiner.encode(["oil"])["oil"].rows)
    assert torch.equal(lane.conditioning.texts[0][:, TEXT_WIDTH:], refiner.encode(["oil"])["oil"].rows)
