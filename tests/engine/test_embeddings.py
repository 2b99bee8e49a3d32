"""Embedding files: every layout that trainers write gives the same vectors, and pickles are not run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from invokeai_daemon.engine.texts.embeddings import load_embedding
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.plan import ModelRef

SMALL, LARGE = torch.arange(8.0).reshape(2, 4), torch.arange(12.0).reshape(2, 6)

Save = Callable[[Any, Path], None]


def reference(path: Path) -> ModelRef:
    return ModelRef("gold", str(path), "sd-1", "embedding")


LAYOUTS: dict[str, tuple[Save, dict[str, Any]]] = {
    "a1111.pt": (
        torch.save,
        {
            "string_to_token": {"*": torch.tensor(265)},
            "string_to_param": {"*": SMALL},
            "name": "gold",
            "step": 100,
            "sd_checkpoint": None,
            "sd_checkpoint_name": None,
        },
    ),
    "two_tokens.pt": (torch.save, {"string_to_token": {}, "string_to_param": {"<gold>": SMALL, "<lead>": SMALL + 1}}),
    "params.safetensors": (save_file, {"emb_params": SMALL}),
    "token.bin": (torch.save, {"<gold>": SMALL}),
    "half.safetensors": (save_file, {"<gold>": SMALL.half()}),
    "last_token.bin": (torch.save, {"<lead>": SMALL + 1, "<gold>": SMALL}),
    "folder/learned_embeds.bin": (torch.save, {"<gold>": SMALL}),
    "folder_2/learned_embeds.safetensors": (save_file, {"<gold>": SMALL}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_vectors(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    save, content = LAYOUTS[name]
    save(content, file)
    [vectors] = load_embedding(reference(tmp_path / name.partition("/")[0]), [4])
    assert vectors is not None
    assert vectors.dtype is torch.float32
    assert torch.equal(vectors, SMALL)


def test_one_vector_is_a_row(tmp_path: Path) -> None:
    save_file({"<gold>": SMALL[1].clone()}, tmp_path / "gold.safetensors")
    [vectors] = load_embedding(reference(tmp_path / "gold.safetensors"), [4])
    assert torch.equal(vectors, SMALL[1:])


def test_each_text_encoder_gets_the_vectors_of_its_width(tmp_path: Path) -> None:
    save_file({"clip_g": LARGE, "clip_l": SMALL}, tmp_path / "gold.safetensors")
    small, large, none = load_embedding(reference(tmp_path / "gold.safetensors"), [4, 6, 8])
    assert torch.equal(small, SMALL)
    assert torch.equal(large, LARGE)
    assert none is None


def test_vectors_that_fit_no_text_encoder_are_refused(tmp_path: Path) -> None:
    save_file({"emb_params": SMALL}, tmp_path / "gold.safetensors")
    with pytest.raises(RenderError, match=r'embedding "gold" has vectors of width 4, and .* of width 6 and 8'):
        load_embedding(reference(tmp_path / "gold.safetensors"), [6, 8])


@pytest.mark.parametrize(
    ("vectors", "told"), [(torch.zeros(0, 4), "has no vectors"), (torch.full((1, 4), torch.inf), "no numbers")]
)
def test_vectors_that_say_nothing_are_refused(tmp_path: Path, vectors: torch.Tensor, told: str) -> None:
    save_file({"emb_params": vectors}, tmp_path / "gold.safetensors")
    with pytest.raises(RenderError, match=f'embedding "gold" .*{told}'):
        load_embedding(reference(tmp_path / "gold.safetensors"), [4])


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("ran",)


def test_a_pickle_that_asks_for_code_is_refused_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"<gold>": SMALL, "more": Attack()}, tmp_path / "gold.bin")
    with pytest.raises(RenderError, match=r'embedding "gold" cannot be used: .*print'):
        load_embedding(reference(tmp_path / "gold.bin"), [4])
    assert capsys.readouterr().out == ""


def test_a_file_that_is_gone_or_cut_off_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "gold.safetensors"
    with pytest.raises(RenderError, match="cannot be opened"):
        load_embedding(reference(file), [4])
    save_file({"emb_params": SMALL}, file)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(RenderError, match="cut off"):
        load_embedding(reference(file), [4])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RenderError, match="no weights in"):
        load_embedding(reference(empty), [4])
