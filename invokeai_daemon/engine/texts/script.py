"""Script: what the denoiser is told in each step of an image whose prompt has a `.swap()`.

Made when a lane starts, asked by the lane before each step. How a swap works is in `swap.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from invokeai_daemon.engine.conditioning import Conditioning, joined
from invokeai_daemon.engine.texts.swap import Swapped
from invokeai_daemon.engine.texts.weighting import ids_of
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.prompt.tree import Fragment, Prompt, Window


@dataclass(frozen=True, eq=False)
class Script:
    """What the denoiser is told in each step."""

    #: Outside of the window: the original prompt.
    plain: Conditioning
    #: Within: a further row for the edited prompt, with all that a swap can do.
    swapped: Conditioning
    window: Window

    def at(self, index: int, count: int) -> Conditioning:
        """What it is told in a step of a run, from 0."""
        moment, window = index / max(1, count), self.window
        words = window.t_start <= moment < window.t_end
        shapes = window.s_start <= moment < window.s_end
        if not (words or shapes):
            return self.plain
        return replace(
            self.swapped, swaps=tuple(replace(each, words=words, shapes=shapes) for each in self.swapped.swaps)
        )


def script_of(prompt: Prompt, tokenizer: Any, original: Conditioning, edited: Conditioning) -> Script:
    """The script of a prompt, from what the denoiser is told of it before and after its swaps.

    Of several swaps, the first says when. Raises RenderError.
    """
    length = original.texts.shape[1]
    source, common = common_tokens(prompt, tokenizer, length)
    device = original.texts.device
    rows = original.rows
    pair = Swapped(rows - 1, rows, source.to(device), common.to(device), words=True, shapes=True)
    both = replace(joined([original, _last(edited)]), swaps=(pair,))
    return Script(original, both, prompt.swaps[0].window)


def common_tokens(prompt: Prompt, tokenizer: Any, length: int) -> tuple[Tensor, Tensor]:
    """For each token of the edited text, which one of the original's it is, and whether both texts have it."""
    source, common = torch.arange(length), torch.zeros(length)
    # Both begin with the token of the beginning.
    common[0] = 1
    before = after = 1
    for part in prompt.parts:
        if isinstance(part, Fragment):
            count = len(ids_of(tokenizer, part.text))
            source[after : after + count] = torch.arange(before, before + count)
            common[after : after + count] = 1
            before, after = before + count, after + count
        else:
            before += _count(part.original, tokenizer)
            after += _count(part.edited, tokenizer)
    # And with that of the end; what fills up behind it is each one's own.
    room = int(tokenizer.model_max_length) - 1
    if max(before, after) > room:
        raise RenderError(
            f"a prompt with .swap(…) has room for {room - 1} tokens, and this one has {max(before, after) - 1}. "
            "Shorten it."
        )
    source[after], common[after] = before, 1
    return source, common


def _count(fragments: Sequence[Fragment], tokenizer: Any) -> int:
    return sum(len(ids_of(tokenizer, each.text)) for each in fragments)


def _last(told: Conditioning) -> Conditioning:
    return Conditioning(told.texts[-1:], {name: each[-1:] for name, each in told.added.items()})
