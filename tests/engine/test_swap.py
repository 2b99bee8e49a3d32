"""Swaps: attention of the original where words are the same, in its window; and neighbours that do not notice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor

from invokeai_daemon.engine.denoise import denoise_step, predict
from invokeai_daemon.engine.lanes import Lane
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.texts.script import common_tokens
from invokeai_daemon.engine.texts.swap import swapping
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.prompt.understand import understand
from tests.engine.build import image
from tests.engine.conftest import difference, render, start_lanes

PROMPT = "a (red).swap({edited}, t_start=0.25, t_end=0.75{more}) circle on blue"


def lane_of(pipeline: Pipeline, edited: str = "light green", more: str = "", **words: Any) -> Lane:
    [lane] = start_lanes(pipeline, [image(prompt=PROMPT.format(edited=edited, more=more), steps=4, **words)])
    return lane


class Maps(AttnProcessor):
    """diffusers' own attention, written out, that keeps its maps and can have others in their place."""

    def __init__(self, kept: list[Tensor], replace: Any) -> None:
        super().__init__()
        self.kept, self.replace = kept, replace

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **words: Any
    ) -> Tensor:
        told = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(each) for each in (attn.to_q(hidden_states), attn.to_k(told), attn.to_v(told))
        )
        shares = self.replace(attn.get_attention_scores(query, key), encoder_hidden_states is None)
        self.kept.append(shares)
        return attn.to_out[0](attn.batch_to_head_dim(torch.bmm(shares, value)))  # type: ignore[no-any-return]


@contextmanager
def watched(unet: Any, replace: Any) -> Iterator[list[Tensor]]:
    """The attention maps of a UNet's forwards, [heads, pixels, tokens] each."""
    kept: list[Tensor] = []
    layers = [layer for layer in unet.modules() if isinstance(layer, Attention)]
    before = [layer.processor for layer in layers]
    for layer in layers:
        layer.set_processor(Maps(kept, replace))
    try:
        yield kept
    finally:
        for layer, processor in zip(layers, before, strict=True):
            layer.set_processor(processor)


def by_the_formula(lane: Lane, of_words: bool, of_shapes: bool) -> Tensor:
    """What the edited prompt's row becomes: two forwards, the second one with maps of the first."""
    [swap] = lane.conditioning.swaps
    unet, told, timestep = lane.pipeline.denoiser.model, lane.conditioning.texts, lane.timestep
    seen = lane.model_input()[:1]
    with watched(unet, lambda shares, is_self: shares) as kept:
        unet(seen, timestep, told[swap.original : swap.original + 1])
    originals = iter(kept)

    def replace(shares: Tensor, is_self: bool) -> Tensor:
        original = next(originals)
        if is_self:
            return original if of_shapes else shares
        mixed = original[:, :, swap.source] * swap.common + shares * (1 - swap.common)
        return mixed if of_words else shares

    with watched(unet, replace):
        return unet(seen, timestep, told[swap.edited : swap.edited + 1], return_dict=False)[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("more", "words", "shapes"),
    [("", True, False), (", s_start=0.25, s_end=1", True, True), (", t_start=1, s_start=0.25, s_end=1", False, True)],
)
@torch.inference_mode()
def test_the_edited_row_has_the_maps_of_the_original_one(
    pipeline: Pipeline, more: str, words: bool, shapes: bool
) -> None:
    lane = lane_of(pipeline, more=more)
    denoise_step([lane])
    assert lane.rows == 3
    [prediction] = predict([lane])
    expected = by_the_formula(lane, words, shapes)
    assert torch.allclose(prediction[2:], expected, atol=1e-5)
    assert not torch.allclose(prediction[1:2], expected, atol=1e-3)


def test_outside_of_its_window_the_original_prompt_counts(pipeline: Pipeline) -> None:
    lane = lane_of(pipeline)
    rows = []
    while not lane.is_done:
        rows.append(lane.rows)
        denoise_step([lane])
    assert rows == [2, 3, 3, 2]


def test_a_swap_without_a_window_is_the_original_to_the_bit(pipeline: Pipeline) -> None:
    prompts = ["a red circle on blue", "a (red).swap(green, t_start=0.5, t_end=0.5) circle on blue"]
    original, swapped = render(pipeline, [image(1, seed=1, prompt=prompt) for prompt in prompts])
    assert np.array_equal(original, swapped)


def test_words_that_stay_the_same_give_the_same_picture(pipeline: Pipeline) -> None:
    prompts = ["a red circle on blue", "a (red).swap(red, t_start=0, s_end=1) circle on blue"]
    original, swapped = render(pipeline, [image(1, seed=1, prompt=prompt) for prompt in prompts])
    assert difference(original, swapped) <= 1


def test_tokens_are_matched_over_swaps_of_other_lengths(pipeline: Pipeline) -> None:
    prompt = understand("a (red).swap(light green) circle.swap() on blue", "", "invokeai").positive.swapped
    assert prompt is not None
    source, common = common_tokens(prompt, pipeline.prompts.encoders[0].tokenizer, 77)
    # <begin> a (red → light green) (circle →) on blue <end>
    assert source[:7].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert common[:8].tolist() == [1, 1, 0, 0, 1, 1, 1, 0]
    prompt = understand("a (red).swap() circle", "", "invokeai").positive.swapped
    assert prompt is not None
    source, common = common_tokens(prompt, pipeline.prompts.encoders[0].tokenizer, 77)
    assert (source[:4].tolist(), common[:5].tolist()) == ([0, 1, 3, 4], [1, 1, 1, 1, 0])


def test_a_swap_needs_a_prompt_that_is_read_at_once(pipeline: Pipeline) -> None:
    with pytest.raises(RenderError, match="has room for 75 tokens, and this one has 76"):
        lane_of(pipeline, edited="word " * 72)


def test_neighbours_share_its_forwards_and_keep_their_bits(pipeline: Pipeline) -> None:
    plain = [image(2, steps=4), image(3, steps=4, cfg_scale=1.0)]
    swapped = [
        image(1, steps=4, prompt=PROMPT.format(edited="green", more=", s_end=1")),
        image(4, steps=4, prompt=PROMPT.format(edited="green", more=""), cfg_scale=1.0),
    ]
    together = render(pipeline, [swapped[0], *plain, swapped[1]])
    alone = [render(pipeline, [each])[0] for each in (swapped[0], *plain, swapped[1])]
    assert all(np.array_equal(one, other) for one, other in zip(together, alone, strict=True))


def test_nothing_of_it_stays_in_the_model(pipeline: Pipeline) -> None:
    lane = lane_of(pipeline)
    denoise_step([lane])
    with pytest.raises(KeyError), swapping(pipeline.denoiser.model, lane.conditioning.swaps):
        raise KeyError
    assert not any(layer._forward_hooks for layer in pipeline.denoiser.model.modules() if isinstance(layer, Attention))


def test_rows_one_by_one_keep_a_swap_together(pipeline: Pipeline) -> None:
    one, other = lane_of(pipeline), lane_of(pipeline)
    other.is_sequential = True
    while not one.is_done:
        denoise_step([one])
        denoise_step([other])
    assert torch.allclose(one.latents, other.latents, atol=1e-4)


def test_sdxl_swaps_too(xl: Pipeline) -> None:
    prompts = ["a red circle", "a (red).swap(green) circle", "a green circle"]
    original, swapped, edited = render(xl, [image(1, seed=1, prompt=prompt) for prompt in prompts])
    assert not np.array_equal(original, swapped)
    assert not np.array_equal(edited, swapped)
