"""Prompts: text to conditioning, 77 tokens of CLIP exactly as diffusers encodes them, remembered per model.

Called when lanes start. New texts are encoded together; equal texts once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Texts of one forward of the text encoder.
BATCH = 16
REMEMBERED = 512


@dataclass(frozen=True)
class Encoded:
    """A text as conditioning."""

    #: [tokens, width], in the text encoder's type and on its device.
    rows: Tensor
    #: The end of the text that did not fit; empty when all did.
    cut: str


class Prompts:
    """The texts of one model, the most recently used remembered."""

    def __init__(self, tokenizer: Any, text_encoder: Any) -> None:
        self._tokenizer, self._text_encoder = tokenizer, text_encoder
        self._known: OrderedDict[str, Encoded] = OrderedDict()

    @torch.inference_mode()
    def encode(self, texts: Iterable[str]) -> dict[str, Encoded]:
        """The conditioning of each text."""
        wanted = list(dict.fromkeys(texts))
        new = [text for text in wanted if text not in self._known]
        for start in range(0, len(new), BATCH):
            self._learn(new[start : start + BATCH])
        encoded = {text: self._known[text] for text in wanted}
        for text in wanted:
            self._known.move_to_end(text)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return encoded

    def _learn(self, texts: list[str]) -> None:
        length = self._tokenizer.model_max_length
        ids = self._tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        mask = ids.attention_mask if getattr(self._text_encoder.config, "use_attention_mask", False) else None
        rows = self._text_encoder(ids.input_ids.to(self._text_encoder.device), attention_mask=mask)[0]
        for text, row in zip(texts, rows, strict=True):
            self._known[text] = Encoded(row, self._cut(text, length))

    def _cut(self, text: str, length: int) -> str:
        # Every token takes at least one byte, so short texts need no second look.
        if len(text.encode("utf-8", "replace")) <= length - 2:
            return ""
        ids = self._tokenizer(text, truncation=False, verbose=False).input_ids
        return str(self._tokenizer.decode(ids[length - 1 : -1])) if len(ids) > length else ""
