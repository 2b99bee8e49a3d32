"""Seamless models: around the edges of the wanted axes only, with the bits of neighbours apart, and no trace left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.loading.steady import make_steady
from invokeai_daemon.engine.seamless import Axes, seamless

BOTH, X, Y = (True, True), (True, False), (False, True)


@pytest.mark.parametrize("axes", [BOTH, X, Y])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 2, "padding": (2, 1)}, {"groups": 4}])
@torch.inference_mode()
def test_a_convolution_sees_the_other_edge(axes: Axes, options: dict[str, Any]) -> None:
    layer = nn.Conv2d(4, 8, 3, **{"padding": 1, **options})
    picture = torch.randn(2, 4, 8, 12)
    _, right, _, down = layer._reversed_padding_repeated_twice
    around = functional.pad(picture, (right, right, 0, 0), mode="circular" if axes[0] else "constant")
    around = functional.pad(around, (0, 0, down, down), mode="circular" if axes[1] else "constant")
    expected = functional.conv2d(around, layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)
    with seamless(layer, axes):
        assert torch.equal(layer(picture), expected)
        make_steady(layer)
        assert torch.allclose(layer(picture), expected, atol=1e-6)


@pytest.mark.parametrize(("axes", "dimension"), [(X, 3), (Y, 2), (BOTH, 3), (BOTH, 2)])
@torch.inference_mode()
def test_a_seamless_model_does_not_know_where_its_edge_is(pipeline: Pipeline, axes: Axes, dimension: int) -> None:
    unet, vae = pipeline.denoiser.model, pipeline.vae.model
    latents, words = torch.randn(1, 4, 16, 16), torch.randn(1, 77, 32)
    with seamless(unet, axes), seamless(vae, axes):
        told = unet(latents, torch.tensor([500.0]), words).sample
        rolled = unet(latents.roll(4, dimension), torch.tensor([500.0]), words).sample
        picture, rolled_picture = (vae.decode(each).sample for each in (latents, latents.roll(4, dimension)))
    assert torch.allclose(told.roll(4, dimension), rolled, atol=1e-4)
    assert torch.allclose(picture.roll(4 * pipeline.pixels_per_latent, dimension), rolled_picture, atol=1e-3)
    plainly = unet(latents.roll(4, dimension), torch.tensor([500.0]), words).sample
    assert not torch.allclose(plainly, rolled, atol=1e-3)


def test_nothing_of_it_stays(pipeline: Pipeline) -> None:
    def everything() -> list[list[str]]:
        return [[type(layer).__name__, *sorted(vars(layer))] for layer in pipeline.denoiser.model.modules()]

    before = everything()
    with pytest.raises(KeyError), seamless(pipeline.denoiser.model, BOTH):
        assert everything() != before
        raise KeyError
    assert everything() == before
    with seamless(pipeline.denoiser.model, (False, False)):
        assert everything() == before
