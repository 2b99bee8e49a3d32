"""Weighting: weighted, blended and long prompts to hidden states, by compel, InvokeAI's own library.

Called by `prompts.py` for all that is more than one short plain text. Reads no syntax: trees come from `job.prompt`.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from invokeai_daemon.engine.loading.streaming import device_of
from invokeai_daemon.job.prompt.tree import Blend, Conjunction, Fragment, Prompt, prompt_of

if TYPE_CHECKING:
    from invokeai_daemon.engine.texts.prompts import Encoder

#: Tokens of one prompt; a forward of the denoiser slows down with each, and 16 parts are more than models make use of.
LONGEST = 16 * 75


@dataclass(frozen=True)
class _CompelsEncoder:
    """A text encoder as compel calls it, which gets the states that its model's family wants."""

    encoder: Encoder
    skipped: int

    @property
    def device(self) -> torch.device:
        return device_of(self.encoder.model)

    @property
    def dtype(self) -> torch.dtype:
        return self.encoder.model.dtype  # type: ignore[no-any-return]

    def __call__(self, ids: Tensor, mask: Tensor | None = None, **_: Any) -> Any:
        return SimpleNamespace(last_hidden_state=self.encoder.forward(ids, mask, self.skipped)[0])


def weighted_rows(encoder: Encoder, tree: Conjunction, skipped: int) -> Tensor:
    """The hidden states of a tree, [tokens, width]; tokens are a multiple of the encoder's length."""
    with warnings.catch_warnings():
        # Its import touches names that libraries are about to move.
        warnings.simplefilter("ignore")
        import compel
    compeller = compel.Compel(encoder.tokenizer, _CompelsEncoder(encoder, skipped), truncate_long_prompts=False)
    parts = [_in_compels_words(prompt, encoder.tokenizer) for prompt in tree.prompts]
    conjunction = compel.prompt_parser.Conjunction(parts, list(tree.weights))
    rows: Tensor = compeller.build_conditioning_tensor_for_conjunction(conjunction)[0]
    return rows[0]


def _in_compels_words(prompt: Prompt | Blend, tokenizer: Any) -> Any:
    from compel import prompt_parser

    if isinstance(prompt, Blend):
        parts = [_in_compels_words(each, tokenizer) for each in prompt.prompts]
        return prompt_parser.Blend(parts, list(prompt.weights), prompt.is_normalized)
    # Words without tokens cannot be masked.
    said = [each for each in prompt.fragments if ids_of(tokenizer, each.text)] or [Fragment("")]
    flat = prompt_parser.FlattenedPrompt()
    for each in said:
        fragment = prompt_parser.Fragment("", each.weight)
        # Given to its constructor, it would be taken for escaped.
        fragment.text = each.text
        flat.append(fragment)
    return flat


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text, without those of its beginning and end."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
    return ids


def shortened(tree: Conjunction, tokenizer: Any) -> tuple[Conjunction, str]:
    """The tree with prompts of LONGEST tokens at most, and the ends that were cut off."""
    cuts: list[str] = []

    def short(prompt: Prompt) -> Prompt:
        room, kept = LONGEST, []
        for each in prompt.fragments:
            ids = ids_of(tokenizer, each.text)
            kept.append(each if len(ids) <= room else Fragment(tokenizer.decode(ids[:room]), each.weight))
            cuts.extend([tokenizer.decode(ids[room:])] if len(ids) > room else [])
            room = max(0, room - len(ids))
        return prompt_of(kept) if cuts else prompt

    def of(part: Prompt | Blend) -> Prompt | Blend:
        if isinstance(part, Prompt):
            return short(part)
        return Blend(tuple(map(short, part.prompts)), part.weights, part.is_normalized)

    return Conjunction(tuple(map(of, tree.prompts)), tree.weights), " ".join(cuts)


def tokenization(tree: Conjunction, tokenizer: Any) -> list[dict[str, Any]]:
    """Each prompt of a tree with its tokens; a token that ends a word ends with a space."""
    return [_tokenization(prompt, tokenizer) for prompt in tree.texts]


def _tokenization(prompt: Prompt, tokenizer: Any) -> dict[str, Any]:
    ids = [token for each in prompt.fragments for token in ids_of(tokenizer, each.text)]
    tokens = [token.replace("</w>", " ") for token in tokenizer.convert_ids_to_tokens(ids)]
    said = [{**asdict(each), "text": tokenizer.readable(each.text)} for each in prompt.fragments]
    return {"fragments": said, "tokens": tokens, "count": len(tokens)}
