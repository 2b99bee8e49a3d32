"""Precision: what the settings ask for is kept, small models stay exact, and an absent device is told."""

from __future__ import annotations

import pytest
import torch

from invokeai_daemon.engine.loading import precision
from invokeai_daemon.engine.loading.precision import bfloat16_gain, choose_device, choose_dtype
from invokeai_daemon.errors import RenderError

CPU = torch.device("cpu")
LARGE = 860_000_000


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_an_asked_precision_is_kept(name: str) -> None:
    assert choose_dtype(name, CPU, parameters=1) is getattr(torch, name)


def test_a_small_model_stays_exact() -> None:
    assert choose_dtype("auto", CPU, parameters=4_000_000) is torch.float32


@pytest.mark.parametrize(("gain", "expected"), [(0.2, torch.float32), (1.1, torch.float32), (3.0, torch.bfloat16)])
def test_a_large_model_is_short_where_that_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, gain: float, expected: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "bfloat16_gain", lambda: gain)
    assert choose_dtype("auto", CPU, LARGE) is expected


def test_the_probe_measures_this_processor_once() -> None:
    assert 0.001 < bfloat16_gain() < 100
    assert bfloat16_gain() == bfloat16_gain()


def test_accelerators_use_half_precision() -> None:
    assert choose_dtype("auto", torch.device("cuda"), LARGE) is torch.float16


def test_a_device_that_is_absent_is_told() -> None:
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(RenderError, match=f'\\[render\\] device is "{absent}", but torch .* sees'):
        choose_device(absent)


def test_the_processor_is_always_there() -> None:
    assert choose_device("cpu") == CPU
