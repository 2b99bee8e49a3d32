"""Steady layers: at the widths of the full-size model, a row's bits do not depend on how many rows there are."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.activations import QuickGELUActivation

from invokeai_daemon.engine.loading.steady import make_steady

LAYERS = [
    (nn.Linear(320, 1280), (320,)),
    (nn.Linear(1280, 640), (1280,)),
    (nn.Linear(768, 320, bias=False), (77, 768)),
    (nn.Linear(320, 2560), (256, 320)),
    (nn.Conv2d(4, 320, 3, padding=1), (4, 64, 64)),
    (nn.Conv2d(320, 320, 3, padding=1), (320, 16, 16)),
    (nn.Conv2d(640, 320, 1), (640, 16, 16)),
    (nn.Conv2d(1280, 1280, 3, padding=1), (1280, 4, 4)),
    (nn.Conv2d(4, 4, 1), (4, 64, 64)),
    # SDXL's: the numbers and the pooled text, that text's projection, hidden states, pixels as tokens.
    (nn.Linear(2816, 1280), (2816,)),
    (nn.Linear(1280, 1280, bias=False), (1280,)),
    (nn.Linear(2048, 640, bias=False), (77, 2048)),
    (nn.Linear(640, 640), (99, 640)),
    (nn.SiLU(), (640, 32, 32)),
    (nn.SiLU(), (320, 33, 27)),
    (QuickGELUActivation(), (77, 3072)),
]


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)
def test_a_row_has_the_same_bits_however_many_rows_there_are(
    layer: nn.Module, shape: tuple[int, ...], threads: int
) -> None:
    model = nn.Sequential(layer)
    make_steady(model)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            rows = torch.randn(17, *shape)
            everything = model(rows)
            for count in (1, 2, 3, 8):
                assert torch.equal(model(rows[:count]), everything[:count]), count
    finally:
        torch.set_num_threads(before)


def test_layers_stay_what_adapters_look_for() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Conv2d(2, 2, 1))
    names = list(model.state_dict())
    make_steady(model)
    assert isinstance(model[0], nn.Linear)
    assert isinstance(model[1], nn.Conv2d)
    assert list(model.state_dict()) == names
