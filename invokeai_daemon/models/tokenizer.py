"""The CLIP tokenizer's files, made from the vocabulary that open_clip brings along: nothing is fetched.

Called by conversion. Reads one file of the open_clip package without importing the package, which would load torch.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

from invokeai_daemon.errors import DaemonError

VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
#: CLIP uses this many of the merges in the file; after the 512 characters and before the two marks they make 49408.
MERGES = 49152 - 256 - 2
START, END = "<|startoftext|>", "<|endoftext|>"
#: Tokens of a prompt, both marks included.
LENGTH = 77


def write_clip_tokenizer(folder: Path, padding: str = END) -> None:
    """Make `folder` a tokenizer that transformers' CLIPTokenizer loads offline; it is not synced to disk.

    `padding` fills prompts up: OpenAI's models know their own end mark there, open_clip's the exclamation mark.

    Raises DaemonError when open_clip is not installed.
    """
    merges = clip_merges()
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
        "bos_token": START,
        "eos_token": END,
        "pad_token": padding,
        "unk_token": END,
    }
    marks = {name: settings[name] for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(clip_vocabulary(merges), ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(marks, indent=2), encoding="utf-8")


def clip_merges() -> list[str]:
    """The pairs of symbols that are joined, most urgent first: "i n"."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise DaemonError(
            "open_clip_torch is not installed: its CLIP vocabulary is needed. pip install open_clip_torch"
        )
    path = Path(spec.origin).with_name(VOCABULARY_FILE)
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    return lines[1 : MERGES + 1]


def clip_vocabulary(merges: list[str]) -> dict[str, int]:
    """Every token and its number: characters, characters that end a word, joined pairs, the two marks."""
    characters = byte_characters()
    words = [*characters, *(f"{character}</w>" for character in characters)]
    words += [merge.replace(" ", "", 1) for merge in merges]
    return {word: number for number, word in enumerate([*words, START, END])}


def byte_characters() -> list[str]:
    """A visible character for each byte, in CLIP's order: the visible ones of Latin-1 for themselves, then the rest."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = 256 - len(visible)
    return [chr(code) for code in visible] + [chr(0x100 + place) for place in range(hidden)]
