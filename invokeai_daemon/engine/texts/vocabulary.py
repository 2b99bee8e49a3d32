"""Vocabulary: a tokenizer that knows embeddings as words of its own, without a change to it or to its text encoder.

In a text, an embedding is one private character, which `prompts.py` writes there. It becomes as many tokens as the
embedding has vectors, and while the text encoder reads them, its own vectors stand in their places. For whom an
embedding has no vectors, the character is the name again.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import BatchEncoding

#: Unicode's first plane for private use; no syntax of prompts knows its characters.
FIRST, LAST = 0xF0000, 0xFFFFD
_CHARACTER = re.compile(f"([{chr(FIRST)}-{chr(LAST)}])")
#: Tokens beyond this are vectors of embeddings; no tokenizer has so many of its own.
FIRST_OWN = 10_000_000
#: What the text encoder is told instead: an ordinary word, so that it finds the end of the text as ever.
ORDINARY = 0


class Vocabulary:
    """A tokenizer of transformers, called as it is called, that can learn embeddings."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        #: The character of each embedding.
        self._characters: dict[Hashable, str] = {}
        #: What each character stands for: its name, and its tokens.
        self._learned: dict[str, tuple[str, range]] = {}
        #: The vectors of all tokens beyond FIRST_OWN.
        self._vectors: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def knows(self, key: Hashable) -> bool:
        return key in self._characters

    def character(self, key: Hashable) -> str:
        """What stands for an embedding that was learned."""
        return self._characters[key]

    def learn(self, key: Hashable, name: str, vectors: Tensor | None) -> None:
        """From now on a character stands for vectors, [n, width]; None for the words of the name.

        Tokenizers that learn the same embeddings in the same order have the same characters.
        """
        character = self._characters[key] = chr(FIRST + len(self._characters) % (LAST - FIRST))
        first = FIRST_OWN + len(self._vectors)
        self._vectors.extend([] if vectors is None else vectors)
        self._learned[character] = name, range(first, FIRST_OWN + len(self._vectors))

    def readable(self, text: str) -> str:
        """A text with names instead of private characters."""
        return _CHARACTER.sub(lambda found: self._name(found[0]), text)

    def has_learned(self, text: str) -> bool:
        """Whether a text holds what is read as vectors."""
        return any(self._ids_of(character) for character in _CHARACTER.findall(text))

    def __call__(self, texts: str | list[str], **words: Any) -> Any:
        """The tokens of texts. Texts without embeddings are the tokenizer's own affair."""
        if isinstance(texts, str):
            if not self.has_learned(texts):
                return self.tokenizer(self.readable(texts), **words)
            told = self([texts], **{**words, "return_tensors": None})
            return BatchEncoding({key: rows[0] for key, rows in told.items()}, tensor_type=words.get("return_tensors"))
        if not any(self.has_learned(text) for text in texts):
            return self.tokenizer([self.readable(text) for text in texts], **words)
        rows = [self._row(text, words) for text in texts]
        masks = [[1] * len(row) for row in rows]
        if words.get("padding") == "max_length":
            length, padding = words["max_length"], self.tokenizer.pad_token_id
            masks = [mask + [0] * (length - len(mask)) for mask in masks]
            rows = [row + [padding] * (length - len(row)) for row in rows]
        data = {"input_ids": rows, "attention_mask": masks}
        return BatchEncoding(data, tensor_type=words.get("return_tensors"))

    def _row(self, text: str, words: dict[str, Any]) -> list[int]:
        ids = [token for part in _CHARACTER.split(text) for token in self._part(part)]
        is_marked = words.get("add_special_tokens", True)
        if words.get("truncation"):
            ids = ids[: words["max_length"] - (2 if is_marked else 0)]
        return [self.tokenizer.bos_token_id, *ids, self.tokenizer.eos_token_id] if is_marked else ids

    def _part(self, part: str) -> Sequence[int]:
        own = self._ids_of(part)
        if own or not part:
            return own
        plain = self.readable(part)
        ids: list[int] = self.tokenizer(plain, add_special_tokens=False, truncation=False, verbose=False).input_ids
        return ids

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """A name for each token; those of an embedding are the ends of words."""
        return [self._token(each) for each in ids]

    def _token(self, token: int) -> str:
        if token < FIRST_OWN:
            return self.tokenizer.convert_ids_to_tokens([token])[0]  # type: ignore[no-any-return]
        name, own = next(known for known in self._learned.values() if token in known[1])
        return f"{name}</w>" if len(own) == 1 else f"{name}[{own.index(token)}]</w>"

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, with a character for each embedding that is all there."""
        parts: list[str] = []
        for is_own, group in groupby(ids, key=lambda token: token >= FIRST_OWN):
            tokens = list(group)
            parts.append(self._whole(tokens) if is_own else str(self.tokenizer.decode(tokens)))
        return " ".join(part for part in parts if part)

    def _whole(self, tokens: list[int]) -> str:
        starts = {own.start: character for character, (_, own) in self._learned.items() if len(own)}
        return " ".join(starts[token] for token in tokens if token in starts)

    @contextmanager
    def in_words(self, model: Any, ids: Tensor) -> Iterator[Tensor]:
        """Token ids that a text encoder knows; while it reads them, vectors stand in the embeddings' places."""
        is_own = ids >= FIRST_OWN
        if not is_own.any():
            yield ids
            return
        vectors = torch.stack([self._vectors[token - FIRST_OWN] for token in ids[is_own].tolist()])

        def put(module: Any, inputs: Any, embedded: Tensor) -> Tensor:
            return embedded.masked_scatter(is_own.unsqueeze(-1).expand_as(embedded), vectors.to(embedded))

        hook = model.get_input_embeddings().register_forward_hook(put)
        try:
            yield ids.masked_fill(is_own, ORDINARY)
        finally:
            hook.remove()

    def _ids_of(self, character: str) -> range:
        return self._learned[character][1] if character in self._learned else range(0)

    def _name(self, character: str) -> str:
        return self._learned[character][0] if character in self._learned else character
