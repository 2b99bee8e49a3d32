"""The tokenizer written from open_clip's vocabulary gives the tokens that open_clip itself gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from invokeai_daemon.models.tokenizer import byte_characters, clip_merges, clip_vocabulary, write_clip_tokenizer

PROMPTS = (
    "",
    "a red circle on a blue background",
    "A Photo of an ASTRONAUT riding a horse, 8k, (highly detailed:1.2)",
    "don't you'll we've I'm he'd",
    "naïve café, 猫と犬, Ελλάδα, 🎨 <lora:x:0.5> 1234567890",
    "word " * 100,
)


def test_the_vocabulary_has_clip_s_size_and_its_marks_at_the_end() -> None:
    vocabulary = clip_vocabulary(clip_merges())
    assert len(vocabulary) == 49408
    assert (vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]) == (49406, 49407)
    assert (vocabulary["!"], vocabulary["!</w>"], vocabulary["cat</w>"]) == (0, 256, 2368)


def test_every_byte_has_a_character_of_its_own() -> None:
    assert len(set(byte_characters())) == 256


def test_transformers_reads_the_files_and_agrees_with_open_clip(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from open_clip.tokenizer import SimpleTokenizer

    write_clip_tokenizer(tmp_path)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path, local_files_only=True)
    reference = SimpleTokenizer()
    for prompt in PROMPTS:
        assert tokenizer(prompt).input_ids == [49406, *reference.encode(prompt), 49407]
    padded = tokenizer(PROMPTS[1], padding="max_length", max_length=tokenizer.model_max_length).input_ids
    assert len(padded) == 77
    assert set(padded[9:]) == {49407}


def test_writing_it_imports_neither_torch_nor_open_clip(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from invokeai_daemon.models.tokenizer import write_clip_tokenizer
write_clip_tokenizer(Path(sys.argv[1]))
print([name for name in ("torch", "open_clip", "numpy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "t"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert json.loads((tmp_path / "t/tokenizer_config.json").read_text())["model_max_length"] == 77
