"""Casting without torch gives torch's bits, for every kind of number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from invokeai_daemon.models.convert.casting import cast, transpose

NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
SPECIAL = [0.0, -0.0, 1.0, 65504.0, 65519.9, 65520.0, 1e38, 3.4e38, -3.4e38, 6e-8, 1e-45, np.inf, -np.inf, np.nan]


def numbers(dtype: str) -> Any:
    """All numbers of a narrow dtype; of a wide one ties between narrow ones, special numbers and random bits."""
    import torch

    if dtype in ("F16", "BF16"):
        return torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(getattr(torch, NAMES[dtype]))
    ties = (np.arange(1 << 12, dtype=np.uint32) * 0x8000 + 0x3F000000).view(np.float32)
    bits = np.random.default_rng(0).integers(0, 1 << 32, 50_000, dtype=np.uint32).view(np.float32)
    return torch.from_numpy(np.concatenate([ties, bits, np.array(SPECIAL, dtype=np.float32)])).to(
        getattr(torch, NAMES[dtype])
    )


@pytest.mark.parametrize("wanted", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("dtype", NAMES)
def test_every_number_becomes_what_torch_makes_of_it(dtype: str, wanted: str) -> None:
    import torch

    before = numbers(dtype)
    raw, infinite = cast(before.view(torch.uint8).numpy().tobytes(), dtype, wanted)
    ours = torch.frombuffer(bytearray(raw), dtype=getattr(torch, NAMES[wanted]))
    theirs = before.to(ours.dtype)
    assert torch.equal(ours.isnan(), theirs.isnan())
    assert torch.equal(torch.nan_to_num(ours, nan=0.0, posinf=None), torch.nan_to_num(theirs, nan=0.0, posinf=None))
    assert torch.equal(ours.isinf(), theirs.isinf())
    assert torch.equal(ours.signbit()[~ours.isnan()], theirs.signbit()[~theirs.isnan()])
    assert infinite == int((theirs.isinf() & before.isfinite()).sum())


@pytest.mark.parametrize("width", [2, 4, 8])
def test_a_turned_matrix_has_its_rows_as_columns(width: int) -> None:
    values = np.arange(15, dtype=f"<u{width}").reshape(3, 5)
    assert transpose(values.tobytes(), 3, width) == values.T.tobytes()
