"""Trained words: what an embedding is called besides by its file name, in the layouts of its trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from invokeai_daemon.models.header import read_header
from invokeai_daemon.models.trained_words import trained_words

ROWS = torch.zeros(2, 768)


def of_a1111(token: str, **more: Any) -> dict[str, Any]:
    return {"string_to_token": {token: torch.tensor(265)}, "string_to_param": {token: ROWS}, **more}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (of_a1111("*", name="ink-style", step=100, sd_checkpoint=None), ("ink-style",)),
        (of_a1111("<ink>"), ("<ink>",)),
        (of_a1111("*"), ()),
        ({"<cat-toy>": ROWS}, ("<cat-toy>",)),
        ({"emb_params": ROWS}, ()),
        ({"clip_l": ROWS, "clip_g": torch.zeros(2, 1280)}, ()),
        ({"an": ROWS}, ()),
    ],
)
def test_a_file_says_what_it_was_trained_as(tmp_path: Path, content: dict[str, Any], words: tuple[str, ...]) -> None:
    torch.save(content, tmp_path / "x.pt")
    assert trained_words(read_header(tmp_path / "x.pt")) == words


def test_safetensors_say_it_in_their_metadata(tmp_path: Path) -> None:
    save_file({"emb_params": ROWS}, tmp_path / "x.safetensors", {"name": "ink-style"})
    assert trained_words(read_header(tmp_path / "x.safetensors")) == ("ink-style",)
