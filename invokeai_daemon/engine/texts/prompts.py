"""Prompts: text to hidden states, 77 tokens of CLIP exactly as diffusers encodes them, remembered per model.

Called when lanes start. New texts are encoded together; equal texts once. What is more than one short plain text is
encoded by `weighting.py`, each by itself. Families with a T5 (`t5.py`) read the words alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor

from invokeai_daemon.engine.loading.streaming import device_of
from invokeai_daemon.engine.texts.embeddings import load_embedding
from invokeai_daemon.engine.texts.weighting import ids_of, shortened, tokenization, weighted_rows
from invokeai_daemon.job.plan import Image, ModelRef
from invokeai_daemon.job.prompt.tree import Conjunction, plain
from invokeai_daemon.job.prompt.triggers import replaced
from invokeai_daemon.job.prompt.understand import understood


@dataclass(frozen=True)
class Styled:
    """A text, and the one that the further text encoders read instead of it."""

    text: str | Conjunction
    style: str | Conjunction


#: A text that is nothing but text, the tree of a prompt, or different ones for different text encoders.
Text = str | Conjunction | Styled
#: Texts of one forward of the text encoders.
BATCH = 16
#: Bytes of all texts that are remembered: hundreds of SDXL's, dozens of FLUX's.
REMEMBERED = 160_000_000


@dataclass(frozen=True)
class Encoded:
    """A text as a denoiser takes it."""

    #: [tokens, width], in the text encoders' type and on their device.
    rows: Tensor
    #: The whole text as one vector, [width]; None where the model has none.
    pooled: Tensor | None
    #: The end of the text that did not fit; empty when all did, as nearly always.
    cut: str = ""

    def zeroed(self) -> Encoded:
        """What models that were trained so take for no text at all."""
        pooled = None if self.pooled is None else torch.zeros_like(self.pooled)
        return Encoded(torch.zeros_like(self.rows), pooled, self.cut)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.rows.nbytes + (0 if self.pooled is None else self.pooled.nbytes)


#: Of some texts, the hidden states [texts, tokens, width], and each as one vector [texts, width] where there is one.
States = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Encoder:
    """One text encoder of CLIP's kind with its tokenizer."""

    tokenizer: Any
    model: Any
    #: Its hidden states before the last layer count, not those after it.
    is_penultimate: bool = False
    #: Only its vector of the whole text is of use.
    is_pooled: bool = False

    @property
    def spare_layers(self) -> int:
        """How many of the last layers can be left out, so that one is left."""
        if self.is_pooled:
            return 0
        return int(self.model.config.num_hidden_layers) - (2 if self.is_penultimate else 1)

    def encode(self, texts: list[str], skipped: int = 0) -> States:
        """Hidden states [texts, tokens, width], and pooled texts [texts, width] where the model projects them.

        So many of the last layers are `skipped`, on top of the one that a penultimate layer leaves out.
        """
        length = self.tokenizer.model_max_length
        told = self.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        told = told.to(device_of(self.model))
        mask = told.attention_mask if getattr(self.model.config, "use_attention_mask", False) else None
        return self.forward(told.input_ids, mask, skipped)

    def forward(self, ids: Tensor, mask: Tensor | None, skipped: int) -> States:
        """The same of token ids [texts, tokens]. The mask leaves tokens out."""
        with self.tokenizer.in_words(self.model, ids) as words:
            told = self.model(words, attention_mask=mask, output_hidden_states=self.is_penultimate or skipped > 0)
        pooled = told.pooler_output if self.is_pooled else getattr(told, "text_embeds", None)
        return self._states(told, skipped), pooled

    def _states(self, told: Any, skipped: int) -> Tensor:
        if self.is_penultimate:
            return told.hidden_states[-2 - skipped]  # type: ignore[no-any-return]
        if not skipped:
            return told[0]  # type: ignore[no-any-return]
        # The norm after the last layer is the model's, whichever layer is its last.
        norm = getattr(self.model, "text_model", self.model).final_layer_norm
        return norm(told.hidden_states[-1 - skipped])  # type: ignore[no-any-return]

    def fits(self, text: str) -> bool:
        """Whether a text fits into one forward."""
        room = int(self.tokenizer.model_max_length) - 2
        # Every token of a word takes at least one byte, so short texts need no second look.
        is_short = len(text.encode("utf-8", "replace")) <= room and not self.tokenizer.has_learned(text)
        return is_short or len(ids_of(self.tokenizer, text)) <= room

    def cut(self, text: str) -> str:
        """The end of a text that does not fit into one forward."""
        room = int(self.tokenizer.model_max_length) - 2
        return "" if self.fits(text) else str(self.tokenizer.decode(ids_of(self.tokenizer, text)[room:]))


class Prompts:
    """The texts of one model, the most recently used remembered."""

    #: Weights, blends and whatever is too long for one forward have their effect.
    is_weighing = True

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        """The hidden states of several encoders stand side by side."""
        self.encoders = tuple(encoders)
        #: By text and the layers that were skipped.
        self._known: OrderedDict[tuple[str | Conjunction, int], Encoded] = OrderedDict()
        #: What is done to the text encoders before they are called.
        self._prepare: Callable[[], None] = lambda: None

    def prepared(self, prepare: Callable[[], None]) -> Self:
        """The same encoders with a memory of their own, for texts that are encoded after this is done to them."""
        others = copy(self)
        others._known, others._prepare = OrderedDict(), prepare
        return others

    @property
    def spare_layers(self) -> int:
        """How many of the last layers can be skipped."""
        return min(encoder.spare_layers for encoder in self.encoders)

    @torch.inference_mode()
    def encode(self, texts: Iterable[Text], skipped: int = 0) -> dict[Text, Encoded]:
        """Each text, encoded without so many of the last layers, at most `spare_layers`."""
        skipped = min(skipped, self.spare_layers)
        asked = list(dict.fromkeys(texts))
        encoded = self._encode(chain(*map(_parts, asked)), skipped)
        return {text: self._put_together(text, encoded, skipped) for text in asked}

    def _put_together(self, text: Text, encoded: Mapping[str | Conjunction, Encoded], skipped: int) -> Encoded:
        if not isinstance(text, Styled):
            return encoded[text]
        # A model of one text encoder, SDXL's refiner, has the second one: it reads the style.
        if len(self.encoders) == 1:
            return encoded[text.style]
        first, others = self.level([encoded[text.text], encoded[text.style]], skipped)
        width = int(self.encoders[0].model.config.hidden_size)
        rows = torch.cat([first.rows[:, :width], others.rows[:, width:]], dim=-1)
        return Encoded(rows, others.pooled, " ".join(cut for cut in (first.cut, others.cut) if cut))

    def _encode(self, texts: Iterable[str | Conjunction], skipped: int) -> dict[str | Conjunction, Encoded]:
        wanted = list(dict.fromkeys(texts))
        new = [text for text in wanted if (text, skipped) not in self._known]
        if new:
            self._prepare()
        short = [text for text in new if isinstance(text, str) and self._is_read_at_once(text)]
        for start in range(0, len(short), BATCH):
            self._learn(short[start : start + BATCH], skipped)
        for text in new:
            if (text, skipped) not in self._known:
                self._known[text, skipped] = self._weighted(plain(text) if isinstance(text, str) else text, skipped)
        encoded = {text: self._known[text, skipped] for text in wanted}
        for text in wanted:
            self._known.move_to_end((text, skipped))
        while sum(known.size for known in self._known.values()) > REMEMBERED:
            self._known.popitem(last=False)
        return encoded

    def level(self, texts: Sequence[Encoded], skipped: int = 0) -> list[Encoded]:
        """Texts of one image with equally many tokens: to shorter ones that of nothing is appended."""
        most = max(len(text.rows) for text in texts)
        if all(len(text.rows) == most for text in texts):
            return list(texts)
        nothing = self.encode([""], skipped)[""].rows
        return [
            replace(text, rows=torch.cat([text.rows, *[nothing] * ((most - len(text.rows)) // len(nothing))]))
            for text in texts
        ]

    def with_embeddings(self, image: Image, embeddings: Iterable[ModelRef]) -> Image:
        """An image whose prompts name these embeddings by what the tokenizers know them by. Raises RenderError."""
        known = {reference.asked: self._learned(reference) for reference in embeddings}
        style, negative_style = (
            text and replaced(text, known) for text in (image.style_prompt, image.negative_style_prompt)
        )
        return replace(
            image,
            prompt=replaced(image.prompt, known),
            negative_prompt=replaced(image.negative_prompt, known),
            style_prompt=style,
            negative_style_prompt=negative_style,
        )

    def readable(self, text: str) -> str:
        """What such an image says, for people."""
        return str(self._leading.tokenizer.readable(text))

    def _learned(self, embedding: ModelRef) -> str:
        key = embedding.path, embedding.hash
        tokenizers = [encoder.tokenizer for encoder in self.encoders]
        if not tokenizers[0].knows(key):
            widths = [encoder.model.get_input_embeddings().embedding_dim for encoder in self.encoders]
            for tokenizer, vectors in zip(tokenizers, load_embedding(embedding, widths), strict=True):
                tokenizer.learn(key, embedding.name, vectors)
        return str(tokenizers[0].character(key))

    def tokenization(self, image: Image) -> dict[str, Any]:
        """How the prompts of an image are split into tokens, for result.json."""
        seen, tokenizer = understood(image), self._leading.tokenizer
        trees = {
            "prompt": seen.positive,
            "edited_prompt": seen.positive.edited if seen.positive.swapped else None,
            "negative_prompt": seen.negative,
            "style_prompt": seen.style,
            "negative_style_prompt": seen.negative_style,
        }
        return {key: tokenization(tree, tokenizer) for key, tree in trees.items() if tree is not None}

    @property
    def _leading(self) -> Encoder:
        """The encoder whose tokens decide what is long."""
        return self.encoders[0]

    def _is_read_at_once(self, text: str) -> bool:
        return self._leading.fits(text)

    def forget(self) -> None:
        """Keep no text."""
        self._known.clear()

    def _learn(self, texts: list[str], skipped: int) -> None:
        for text, encoded in zip(texts, self._encoded(texts, skipped), strict=True):
            self._known[text, skipped] = encoded

    def _encoded(self, texts: list[str], skipped: int) -> Iterator[Encoded]:
        rows, pooled = self._joined([encoder.encode(texts, skipped) for encoder in self.encoders])
        vectors = [None] * len(texts) if pooled is None else pooled
        return (Encoded(row, vector) for row, vector in zip(rows, vectors, strict=True))

    def _joined(self, told: Sequence[States]) -> States:
        rows = torch.cat([states for states, _ in told], dim=-1)
        return rows, next((vectors for _, vectors in told if vectors is not None), None)

    def _weighted(self, tree: Conjunction, skipped: int) -> Encoded:
        # The encoders share one vocabulary and one length, so that their rows stand side by side.
        tree, cut = shortened(tree, self.encoders[0].tokenizer)
        rows = torch.cat([weighted_rows(encoder, tree, skipped) for encoder in self.encoders], dim=-1)
        # Weights mean nothing to the vector of a whole text, as in InvokeAI, and what does not fit it is left out.
        [whole] = self._encoded([tree.text], skipped)
        return Encoded(rows, whole.pooled, self.readable(cut))


def _parts(text: Text) -> tuple[str | Conjunction, ...]:
    return (text.text, text.style) if isinstance(text, Styled) else (text,)
