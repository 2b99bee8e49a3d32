"""The same model in every file format that torch has written gives the same folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.models.convert import convert_model
from invokeai_daemon.models.header import read_header
from invokeai_daemon.root import Root
from tests.models.convert import models
from tests.models.convert.models import MODELS
from tests.models.convert.small import contents


def saved(tensors: dict[str, Any], path: Path, kind: str) -> Path:
    import torch

    if kind == "one storage":
        whole = torch.cat([tensor.ravel() for tensor in tensors.values()])
        pieces = torch.split(whole, [tensor.numel() for tensor in tensors.values()])
        tensors = {name: piece.view(old.shape) for (name, old), piece in zip(tensors.items(), pieces, strict=True)}
    content: dict[str, Any] = {"state_dict": tensors, "global_step": 1} if kind != "bare" else tensors
    torch.save(content, path, _use_new_zipfile_serialization=kind != "legacy")
    return path


@pytest.mark.parametrize("kind", ["zip", "bare", "legacy", "one storage"])
@pytest.mark.parametrize("name", ["sd-2 512", "sdxl"])
def test_a_pickle_gives_the_same_tensors_as_safetensors(name: str, kind: str, tmp_path: Path, root: Root) -> None:
    from safetensors.torch import load_file

    small = MODELS[name].with_few_words()
    source = models.write(tmp_path / "small.safetensors", small.tensors())
    pickle = saved(load_file(source), tmp_path / "small.ckpt", kind)
    folder = convert_model(read_header(source), small.identity, root, "one")
    other = convert_model(read_header(pickle), small.identity, root, "other", verify=True)
    assert folder != other
    for path in folder.rglob("*.safetensors"):
        assert contents(path) == contents(other / path.relative_to(folder))
    for path in folder.rglob("*.json"):
        if not path.name.startswith("."):
            assert path.read_bytes() == (other / path.relative_to(folder)).read_bytes()
