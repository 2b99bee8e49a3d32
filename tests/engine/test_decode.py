"""Decoding: diffusers' arithmetic, bits that do not depend on neighbours, and pictures that show nothing are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from invokeai_daemon.engine.decode import FLAT, NOT_A_NUMBER, decode, decode_limit
from invokeai_daemon.engine.lanes import Lane
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.texts import weighting
from tests.engine.build import image
from tests.engine.conftest import start_lanes


@pytest.fixture
def lanes(pipeline: Pipeline) -> list[Lane]:
    """Five lanes whose latents are their first noise, which is as good as any for the decoder."""
    return start_lanes(pipeline, [image(number, scheduler="ddim") for number in range(1, 6)])


def test_pixels_are_those_of_diffusers(plain: Any, lanes: list[Lane]) -> None:
    with torch.inference_mode():
        decoded = plain.vae.decode(lanes[0].latents / plain.vae.config.scaling_factor, return_dict=False)[0]
    expected = np.asarray(plain.image_processor.postprocess(decoded, output_type="pil")[0])
    pixels = decode(lanes[:1])[0].pixels
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("size", [(64, 64), (72, 128), (256, 256)])
def test_pictures_decoded_together_have_the_bits_they_have_alone(pipeline: Pipeline, size: tuple[int, int]) -> None:
    width, height = size
    images = [image(number, width=width, height=height, scheduler="ddim") for number in range(1, 6)]
    lanes = start_lanes(pipeline, images)
    together = decode(lanes)
    for count in (1, 2, 3):
        for one, other in zip(decode(lanes[:count]), together, strict=False):
            assert np.array_equal(one.pixels, other.pixels)


def test_larger_pictures_are_decoded_one_at_a_time(pipeline: Pipeline) -> None:
    small, large = start_lanes(pipeline, [image(), image(width=512, height=512)])
    assert decode_limit(small) == 4
    assert decode_limit(large) == 1


def test_a_good_picture_has_no_warning(lanes: list[Lane]) -> None:
    assert [picture.warnings for picture in decode(lanes)] == [[]] * len(lanes)


def test_values_that_are_no_numbers_are_black_and_told(lanes: list[Lane]) -> None:
    lanes[1].latents = torch.full_like(lanes[1].latents, float("nan"))
    pictures = decode(lanes)
    assert pictures[1].warnings == [NOT_A_NUMBER]
    assert not pictures[1].pixels.any()
    assert pictures[0].warnings == pictures[2].warnings == []


def test_a_picture_of_one_colour_is_told(
    pipeline: Pipeline, lanes: list[Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.vae.model, "decode", lambda latents, return_dict: (torch.full((1, 3, 64, 64), 0.2),))
    assert decode(lanes[:1])[0].warnings == [FLAT]


def test_a_prompt_that_was_cut_is_told(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighting, "LONGEST", 80)
    lanes = start_lanes(pipeline, [image(prompt="word " * 80 + "unread")])
    [warning] = decode(lanes)[0].warnings
    assert warning.startswith("the prompt is longer than the model reads")
    assert warning.endswith('unread"')
