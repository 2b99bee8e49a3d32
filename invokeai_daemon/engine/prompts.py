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

    @property
    def spare_layers(self) -> int:
        """How many of the last layers can be left out, so that one is left."""
        return int(self.model.config.num_hidden_layers) - (2 if self.is_penultimate else 1)

    def encode(self, texts: list[str], skipped: int = 0) -> tuple[Tensor, Tensor | None]:
        """Hidden states [texts, tokens, width], and pooled texts [texts, width] where the model projects them.

        So many of the last layers are `skipped`, on top of the one that a penultimate layer leaves out.
        """
        length = self.tokenizer.model_max_length
        ids = self.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        mask = ids.attention_mask if getattr(self.model.config, "use_attention_mask", False) else None
        told = self.model(
            ids.input_ids.to(self.model.device),
            attention_mask=mask,
            output_hidden_states=self.is_penultimate or skipped > 0,
        )
        return self._states(told, skipped), getattr(told, "text_embeds", None)

    def _states(self, told: Any, skipped: int) -> Tensor:
        if self.is_penultimate:
            return told.hidden_states[-2 - skipped]  # type: ignore[no-any-return]
        if not skipped:
            return told[0]  # type: ignore[no-any-return]
        # The norm after the last layer is the model's, whichever layer is its last.
        norm = getattr(self.model, "text_model", self.model).final_layer_norm
        return norm(told.hidden_states[-1 - skipped])  # type: ignore[no-any-return]

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
        #: By text and the layers that were skipped.
        self._known: OrderedDict[tuple[str, int], Encoded] = OrderedDict()

    @property
    def spare_layers(self) -> int:
        """How many of the last layers can be skipped."""
        return min(encoder.spare_layers for encoder in self.encoders)

    @torch.inference_mode()
    def encode(self, texts: Iterable[str], skipped: int = 0) -> dict[str, Encoded]:
        """Each text, encoded without so many of the last layers, at most `spare_layers`."""
        skipped = min(skipped, self.spare_layers)
        wanted = list(dict.fromkeys(texts))
        new = [text for text in wanted if (text, skipped) not in self._known]
        for start in range(0, len(new), BATCH):
            self._learn(new[start : start + BATCH], skipped)
        encoded = {text: self._known[text, skipped] for text in wanted}
        for text in wanted:
            self._known.move_to_end((text, skipped))
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return encoded

    def _learn(self, texts: list[str], skipped: int) -> None:
        told = [encoder.encode(texts, skipped) for encoder in self.encoders]
        rows = torch.cat([states for states, _ in told], dim=-1)
        pooled = next((vectors for _, vectors in told if vectors is not None), [None] * len(texts))
        for text, row, vector in zip(texts, rows, pooled, strict=True):
            # The encoders share one vocabulary and one length.
            self._known[text, skipped] = Encoded(row, vector, self.encoders[0].cut(text))
