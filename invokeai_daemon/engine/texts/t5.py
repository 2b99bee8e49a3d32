"""T5: the text encoder that Stable Diffusion 3 and FLUX.1 have beside CLIP, and how the words of all become one.

Called by `prompts.py`'s users like any text encoder. Nobody has trained these models to heed weights: their prompts are
words and nothing else, and a long one is read by T5 alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from invokeai_daemon.engine.loading.streaming import device_of
from invokeai_daemon.engine.texts.prompts import Encoded, Encoder, Prompts, States
from invokeai_daemon.engine.texts.weighting import ids_of
from invokeai_daemon.job.prompt.tree import Conjunction

#: Texts of one forward: attention to 512 tokens in 64 heads takes 64 MB for each.
BATCH = 4
#: More than any text encoder has.
ALL_LAYERS = 1000
#: From what each encoder says of some texts, T5 last, to what the denoiser is told.
Join = Callable[[Sequence[States]], States]


@dataclass(frozen=True)
class T5(Encoder):
    """The encoder half of a T5, with its tokenizer."""

    #: Tokens that it reads of a text; shorter ones are filled up.
    length: int = 512

    @property
    def spare_layers(self) -> int:
        """CLIP's layers are skipped, never its own."""
        return ALL_LAYERS

    def encode(self, texts: list[str], skipped: int = 0) -> States:
        """Hidden states [texts, tokens, width]."""
        parts = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
        return torch.cat([self._read(part) for part in parts]), None

    def _read(self, texts: list[str]) -> Tensor:
        ids = self.tokenizer(texts, padding="max_length", max_length=self.length, truncation=True, return_tensors="pt")
        # The padding is attended to as well: the models were trained so.
        states: Tensor = self.model(ids.input_ids.to(device_of(self.model)))[0]
        return states.to(self.model.dtype)

    def fits(self, text: str) -> bool:
        return len(ids_of(self.tokenizer, text)) < self.length

    def cut(self, text: str) -> str:
        """The end of a text that is too long; its last token is always the one that ends texts."""
        ids = ids_of(self.tokenizer, text)
        return str(self.tokenizer.decode(ids[self.length - 1 :])) if len(ids) >= self.length else ""


def beside_clip(told: Sequence[States]) -> States:
    """Stable Diffusion 3: both CLIPs side by side, zeros up to the width of T5, then T5; and CLIP's two vectors."""
    *clips, (long, _) = told
    short = torch.cat([rows for rows, _ in clips], dim=-1)
    short = pad(short, (0, long.shape[-1] - short.shape[-1]))
    pooled = torch.cat([vectors for _, vectors in clips if vectors is not None], dim=-1)
    return torch.cat([short, long.to(short)], dim=-2), pooled


def after_clip(told: Sequence[States]) -> States:
    """FLUX.1: T5's hidden states, and CLIP's vector."""
    (_, pooled), (rows, _) = told
    return rows, pooled


class WordsAlone(Prompts):
    """The texts of a model that reads words and nothing else."""

    is_weighing = False

    def __init__(self, encoders: Sequence[Encoder], join: Join, absent: tuple[int, int] | None = None) -> None:
        """T5 is the last encoder; without one, zeros stand for its (tokens, width)."""
        super().__init__(encoders)
        self._join, self._absent = join, absent

    @property
    def _leading(self) -> Encoder:
        return self.encoders[-1]

    def _is_read_at_once(self, text: str) -> bool:
        return True

    def _encoded(self, texts: list[str], skipped: int) -> Iterator[Encoded]:
        told = zip(texts, super()._encoded(texts, skipped), strict=True)
        return (replace(encoded, cut=self._leading.cut(text)) for text, encoded in told)

    def _joined(self, told: Sequence[States]) -> States:
        if self._absent is None:
            return self._join(told)
        rows, _ = told[0]
        return self._join([*told, (rows.new_zeros(len(rows), *self._absent), None)])

    def _weighted(self, tree: Conjunction, skipped: int) -> Encoded:
        [whole] = self._encoded([tree.text], skipped)
        return whole
