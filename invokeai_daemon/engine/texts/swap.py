"""Swap: a picture keeps its place and outline while words of its prompt are exchanged (prompt-to-prompt).

The original and the edited prompt are rows of one forward. In every attention layer, the edited row's pixels look where
the original's look: at the words that both have in common, and at each other where that is asked for. Called around the
denoiser's forward; other rows keep their bits. Reads no syntax: what is swapped when is said in `script.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True, eq=False)
class Swapped:
    """Two rows of a forward, of which one looks where the other looks."""

    #: Their numbers.
    original: int
    edited: int
    #: For each token of the edited text, which one of the original's it is, [tokens].
    source: Tensor
    #: 1 for the tokens that both texts have, 0 for those of the edited text alone, [tokens].
    common: Tensor
    #: Whether pixels look at words as the original's do, and at each other.
    words: bool
    shapes: bool

    def moved(self, rows: int) -> Swapped:
        """The same for rows that stand behind so many others."""
        return replace(self, original=self.original + rows, edited=self.edited + rows)


@contextmanager
def swapping(model: nn.Module, swaps: Sequence[Swapped]) -> Iterator[None]:
    """The edited rows of the model's forwards look where the original ones look; afterwards it is as it was."""
    layers = [layer for layer in model.modules() if isinstance(layer, Attention)] if swaps else []
    hooks = [layer.register_forward_hook(partial(_redirect, swaps), with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _redirect(
    swaps: Sequence[Swapped], layer: Attention, inputs: tuple[Any, ...], named: dict[str, Any], output: Tensor
) -> Tensor:
    """What a layer says, with the edited rows' part of it exchanged. (A forward hook.)"""
    seen = inputs[0] if inputs else named["hidden_states"]
    told = inputs[1] if len(inputs) > 1 else named.get("encoder_hidden_states")
    # With image prompts, the text stands before them.
    told = told[0] if isinstance(told, tuple) else told
    changed = [swap for swap in swaps if (swap.shapes if told is None else swap.words)]
    if not changed:
        return output
    output = output.clone()
    for swap in changed:
        original, edited = _Row.of(layer, seen, told, swap.original), _Row.of(layer, seen, told, swap.edited)
        as_ever = layer.to_out[0](_joined(edited.attending(edited)))
        redirected = edited.attending(original) if told is None else edited.looking(original, swap)
        # A difference, so that what others add to the layer's output stays in it.
        difference = layer.to_out[0](_joined(redirected)) - as_ever
        output[swap.edited] += difference[0] / layer.rescale_output_factor
    return output


@dataclass(frozen=True, eq=False)
class _Row:
    """One row in an attention layer, [1, heads, pixels or tokens, width]."""

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float

    @classmethod
    def of(cls, layer: Attention, seen: Tensor, told: Tensor | None, row: int) -> _Row:
        pixels = seen[row : row + 1]
        words = pixels if told is None else told[row : row + 1]
        query, key, value = (
            made.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
            for made in (layer.to_q(pixels), layer.to_k(words), layer.to_v(words))
        )
        return cls(query, key, value, layer.scale)

    def attending(self, other: _Row) -> Tensor:
        """What its pixels become where they look as another row's do."""
        return scaled_dot_product_attention(other.query, other.key, self.value, scale=self.scale)

    def looking(self, other: _Row, swap: Swapped) -> Tensor:
        """The same for the words that both have; at the others they look for themselves."""
        common = swap.common.to(self.value)
        shares = other.shares()[..., swap.source] * common + self.shares() * (1 - common)
        return shares.to(self.value) @ self.value

    def shares(self) -> Tensor:
        """How much each pixel looks at each word, [1, heads, pixels, tokens]."""
        scores = (self.query @ self.key.transpose(-1, -2)).float() * self.scale
        return torch.softmax(scores, dim=-1)


def _joined(heads: Tensor) -> Tensor:
    return heads.transpose(1, 2).flatten(-2)
