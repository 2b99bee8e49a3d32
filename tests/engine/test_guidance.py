"""Guidance and its rescaling, by the formula and as diffusers computes it."""

from __future__ import annotations

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from invokeai_daemon.engine.guidance import guided


def rows() -> torch.Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator("cpu").manual_seed(1))


def test_a_single_row_is_taken_as_it_is() -> None:
    assert torch.equal(guided(rows()[:1], 9.0, 0.5), rows()[:1])


def test_guidance_goes_on_from_the_negative_prompt_through_the_prompt() -> None:
    negative, positive = rows()[:1], rows()[1:]
    assert torch.equal(guided(rows(), 7.5, 0.0), negative + 7.5 * (positive - negative))


@pytest.mark.parametrize("rescale", [0.3, 0.7, 1.0])
def test_rescaling_is_that_of_diffusers(rescale: float) -> None:
    positive, strong = rows()[1:], guided(rows(), 7.5, 0.0)
    assert torch.allclose(guided(rows(), 7.5, rescale), rescale_noise_cfg(strong, positive, rescale), atol=1e-6)


def test_rescaled_wholly_it_spreads_like_the_prompts_own_prediction() -> None:
    assert float(guided(rows(), 20.0, 1.0).std()) == pytest.approx(float(rows()[1:].std()), rel=1e-5)
