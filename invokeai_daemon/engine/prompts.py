"""Prompts: text to hidden states, 77 tokens of CLIP exactly as diffusers encodes them, remembered per model.

Called when lanes start. New texts are encoded together; equal texts once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Texts of one forward of the text encoders.
BATCH = 16
#: A text of SDXL takes 0.6 MB.
REMEMBERED = 256


@dataclass(frozen=True)
class Encoded:
    """A text as a denoiser takes it."""

    #: [tokens, width], in the text encoders' type and on their device.
    rows: Tensor
    #: The whole text as one vector, [width]; None where the model has none.
    pooled: Tensor | None
    #: The end of the text that did not fit; empty when all did.
    cut: str

    def zeroed(self) -> Encoded:
        """What models that were trained so take for no text at all."""
        pooled = None if self.pooled is None else torch.zeros_like(self.pooled)
        return Encoded(torch.zeros_like(self.rows), pooled, self.cut)


@dataclass(frozen=True)
class Encoder:
    """One text encoder with its tokenizer."""

    tokenizer: Any
    model: Any
    #: Its hidden states before the last layer count, not those after it.
    is_penultimate: bool = False

    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor | None]:
        """Hidden states [texts, tokens, width], and pooled texts [texts, width] where the model projects them."""
        length = self.tokenizer.model_max_length
        ids = self.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        mask = ids.attention_mask if getattr(self.model.config, "use_attention_mask", False) else None
        told = self.model(
            ids.input_ids.to(self.model.device), attention_mask=mask, output_hidden_states=self.is_penultimate
        )
        return told.hidden_states[-2] if self.is_penultimate else told[0], getattr(told, "text_embeds", None)

    def cut(self, text: str) -> str:
        """The end of a text that does not fit."""
        length = self.tokenizer.model_max_length
        # Every token takes at least one byte, so short texts need no second look.
        if len(text.encode("utf-8", "replace")) <= length - 2:
            return ""
        ids = self.tokenizer(text, truncation=False, verbose=False).input_ids
        return str(self.tokenizer.decode(ids[length - 1 : -1])) if len(ids) > length else ""


class Prompts:
    """The texts of one model, the most recently used remembered."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        """The hidden states of several encoders stand side by side."""
        self.encoders = tuple(encoders)
        self._known: OrderedDict[str, Encoded] = OrderedDict()

    @torch.inference_mode()
    def encode(self, texts: Iterable[str]) -> dict[str, Encoded]:
        """Each text, encoded."""
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
        told = [encoder.encode(texts) for encoder in self.encoders]
        rows = torch.cat([states for states, _ in told], dim=-1)
        pooled = next((vectors for _, vectors in told if vectors is not None), [None] * len(texts))
        for text, row, vector in zip(texts, rows, pooled, strict=True):
            # The encoders share one vocabulary and one length.
            self._known[text] = Encoded(row, vector, self.encoders[0].cut(text))
