"""Conditioning: what a denoiser is told besides latents and timestep, made of an image's texts and numbers.

One function for each way in which families are told; the table of `families.py` names it. Called when a lane starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from invokeai_daemon.engine.texts.prompts import Encoded
from invokeai_daemon.engine.texts.swap import Swapped
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.prompt.understand import understood
from invokeai_daemon.job.schema.pictures import Refiner

#: The keys of the scores that the refiner is told of what is not wanted, and of what is.
_SCORES = ("negative_aesthetic_score", "positive_aesthetic_score")
#: Where the picture's upper left corner lies in what it was cut from: it is not cut.
UNCUT = (0, 0)


@dataclass(frozen=True)
class Conditioning:
    """What a denoiser is told of some rows."""

    #: Hidden states of the text encoders, [rows, tokens, width].
    texts: Tensor
    #: What else the family's denoiser takes, by its own names; the first dimension of each is the rows'.
    added: Mapping[str, Tensor] = field(default_factory=dict)
    #: Rows that look where others look.
    swaps: tuple[Swapped, ...] = ()

    @property
    def rows(self) -> int:
        return len(self.texts)

    def part(self, rows: slice) -> Conditioning:
        """What some of the rows are told."""
        numbers = range(self.rows)[rows]
        swaps = tuple(each.moved(-numbers.start) for each in self.swaps if each.original in numbers)
        return Conditioning(self.texts[rows], {name: value[rows] for name, value in self.added.items()}, swaps)

    @property
    def smallest_parts(self) -> list[slice]:
        """The rows one by one, but for those that look at each other."""
        edited = {each.edited for each in self.swaps}
        starts = [row for row in range(self.rows) if row not in edited]
        return [slice(start, end) for start, end in zip(starts, [*starts[1:], self.rows], strict=True)]

    def results(self, prediction: Tensor) -> Tensor:
        """What is predicted of the rows that count: not of those that were only there to be looked at."""
        originals = {each.original for each in self.swaps}
        if not originals:
            return prediction
        return prediction[[row for row in range(self.rows) if row not in originals]]


def joined(several: Sequence[Conditioning]) -> Conditioning:
    """The rows of several lanes of one pipeline."""
    added = {name: torch.cat([each.added[name] for each in several]) for name in several[0].added}
    starts = accumulate((each.rows for each in several), initial=0)
    swaps = [swap.moved(start) for start, each in zip(starts, several, strict=False) for swap in each.swaps]
    return Conditioning(torch.cat([each.texts for each in several]), added, tuple(swaps))


def of_texts(image: Image, texts: Sequence[Encoded], index: Mapping[str, Any]) -> Conditioning:
    """Stable Diffusion 1 and 2: the hidden states and nothing else."""
    return Conditioning(torch.stack([text.rows for text in texts]))


def of_texts_and_size(image: Image, texts: Sequence[Encoded], index: Mapping[str, Any]) -> Conditioning:
    """SDXL: also the pooled text, and the sizes before and after cutting."""
    seen = understood(image)
    if (
        len(texts) > 1
        and all(tree is None or tree.plain_text == "" for tree in (seen.negative, seen.negative_style))
        and index.get("force_zeros_for_empty_prompt", True)
    ):
        texts = [*(text.zeroed() for text in texts[:-1]), texts[-1]]
    size = image.height, image.width
    return _with_numbers(texts, [(*size, *UNCUT, *size)] * len(texts))


def of_texts_and_score(image: Image, texts: Sequence[Encoded], index: Mapping[str, Any]) -> Conditioning:
    """SDXL's refiner: a score instead of the second size."""
    usual = (Refiner.model_fields[key].default for key in _SCORES)
    scores = list(usual if image.refiner is None else (getattr(image.refiner, key) for key in _SCORES))[-len(texts) :]
    return _with_numbers(texts, [(image.height, image.width, *UNCUT, score) for score in scores])


def _with_numbers(texts: Sequence[Encoded], numbers: Sequence[tuple[float, ...]]) -> Conditioning:
    rows = torch.stack([text.rows for text in texts])
    pooled = torch.stack([text.pooled for text in texts if text.pooled is not None])
    # Not in the model's type: above 2048, bfloat16 knows every sixteenth number only.
    ids = torch.tensor(numbers, dtype=torch.float32, device=rows.device)
    return Conditioning(rows, {"text_embeds": pooled, "time_ids": ids})


def of_texts_and_vector(image: Image, texts: Sequence[Encoded], index: Mapping[str, Any]) -> Conditioning:
    """Stable Diffusion 3: also the whole text as one vector."""
    pooled = torch.stack([text.pooled for text in texts if text.pooled is not None])
    return Conditioning(torch.stack([text.rows for text in texts]), {"pooled": pooled})


def of_texts_and_guidance(image: Image, texts: Sequence[Encoded], index: Mapping[str, Any]) -> Conditioning:
    """FLUX.1: also that vector, and how closely to follow the text, which some were distilled to be told."""
    told = of_texts_and_vector(image, texts, index)
    # A plan says it for every model that looks at it.
    guidance = told.texts.new_full((told.rows,), image.guidance or 0.0)
    return Conditioning(told.texts, {**told.added, "guidance": guidance})
