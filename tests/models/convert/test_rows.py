"""Tensors made of rows of others: cut, joined, swapped, turned; as stored and cast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from invokeai_daemon.models.convert import families, plan_conversion
from invokeai_daemon.models.convert.family import Component, Family, Layout
from invokeai_daemon.models.convert.layout import (
    Rename,
    Shapes,
    cut,
    identity_matrix,
    joined,
    linears_cut,
    renamed,
    swapped,
    transposed,
)
from invokeai_daemon.models.convert.options import ConvertOptions, Dtype
from invokeai_daemon.models.header import read_header
from invokeai_daemon.models.identity import Identity


@dataclass(frozen=True)
class Puzzle:
    """A part that uses every way in which a tensor can be made."""

    signature: ClassVar[str] = "whole"

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        return cls()

    @classmethod
    def from_config(cls, config: object) -> Self:
        return cls()

    def config(self) -> dict[str, Any]:
        return {"_class_name": "Puzzle"}

    def renames(self) -> Iterator[Rename]:
        yield renamed("whole", "same", (6, 5))
        yield cut("whole", "middle", (3, 5), 2, 6)
        yield joined(["one", "other"], "both", [(2, 3), (4, 3)])
        yield swapped("whole", "swapped", (6, 5))
        yield swapped("line", "swapped_line", (8,))
        yield transposed("whole", "turned", (5, 6))
        yield from linears_cut("fused", ["q", "k", "v"], inputs=4, outputs=2)
        yield identity_matrix("eye", 3)


FAMILY = Family("any", "main", (Component("puzzle", "w.safetensors", ("x", "Y"), (Layout("p.", Puzzle),), alone=True),))


@pytest.mark.parametrize("dtype", ["keep", "float32"])
def test_every_tensor_is_made_of_the_rows_that_the_table_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Dtype
) -> None:
    monkeypatch.setattr(families, "FAMILIES", (FAMILY,))
    shapes = {"whole": (6, 5), "one": (2, 3), "other": (4, 3), "line": (8,), "fused.weight": (6, 4), "fused.bias": (6,)}
    values = np.random.default_rng(0)
    source = {name: values.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    save_file({f"p.{name}": value for name, value in source.items()}, tmp_path / "puzzle.safetensors")
    header, identity = read_header(tmp_path / "puzzle.safetensors"), Identity("main", "any", "checkpoint")
    conversion = plan_conversion(header, identity, ConvertOptions(dtype=dtype))
    conversion.execute(tmp_path / "folder")
    conversion.verify(tmp_path / "folder")
    whole, line = source["whole"], source["line"]
    expected = {
        "same": whole,
        "middle": whole[2:5],
        "both": np.concatenate([source["one"], source["other"]]),
        "swapped": np.concatenate([whole[3:], whole[:3]]),
        "swapped_line": np.concatenate([line[4:], line[:4]]),
        "turned": whole.T,
        "eye": np.eye(3),
    }
    for place, name in enumerate("qkv"):
        expected[f"{name}.weight"] = source["fused.weight"][2 * place : 2 * place + 2]
        expected[f"{name}.bias"] = source["fused.bias"][2 * place : 2 * place + 2]
    made = load_file(tmp_path / "folder/w.safetensors")
    assert made.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(made[name], value)
        assert made[name].dtype == (np.float16 if dtype == "keep" else np.float32)
