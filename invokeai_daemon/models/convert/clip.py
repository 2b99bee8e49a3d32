"""CLIP text encoders: names, shapes and config, for any width and depth.

`Clip` is OpenAI's, of SD-1 and SDXL, which single files keep under transformers' names. `OpenClip` is that of SD-2, and
`OpenClipProjected` the large one of SDXL, under the names of the open_clip package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from invokeai_daemon.models.convert.layout import (
    MAX_MODULES,
    Rename,
    Shapes,
    count,
    cut,
    linear,
    norm,
    renamed,
    transposed,
    width,
)

#: Every CLIP tower is as many heads wide as 64 goes into its width.
HEAD_WIDTH = 64
START_TOKEN, END_TOKEN = 49406, 49407
#: The exclamation mark, which open_clip's models were trained to be filled up with.
PADDING_TOKEN = 0


@dataclass(frozen=True)
class Clip:
    """A text tower. transformers has read the names with `text_model.` in all its versions, so they are kept."""

    signature: ClassVar[str] = "encoder.layers."

    vocabulary: int
    positions: int
    width: int
    layers: int
    #: Width inside the feed-forward blocks.
    inner: int

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        return cls(
            vocabulary=width(shapes, "embeddings.token_embedding.weight"),
            positions=width(shapes, "embeddings.position_embedding.weight"),
            width=width(shapes, "embeddings.token_embedding.weight", 1),
            layers=count(shapes, "encoder.layers."),
            inner=width(shapes, "encoder.layers.0.mlp.fc1.weight"),
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(
            vocabulary=config["vocab_size"],
            positions=config["max_position_embeddings"],
            width=config["hidden_size"],
            layers=config["num_hidden_layers"],
            inner=config["intermediate_size"],
        )

    def config(self) -> dict[str, Any]:
        return {
            "architectures": ["CLIPTextModel"],
            "model_type": "clip_text_model",
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.positions,
            "hidden_size": self.width,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": max(1, self.width // HEAD_WIDTH),
            "projection_dim": self.width,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-05,
            "attention_dropout": 0.0,
            "initializer_factor": 1.0,
            "initializer_range": 0.02,
            "bos_token_id": START_TOKEN,
            "eos_token_id": END_TOKEN,
            "pad_token_id": END_TOKEN,
            # What it computes in unless told otherwise, whatever it is stored as: as diffusers does with its own parts.
            "dtype": "float32",
        }

    def renames(self) -> Iterator[Rename]:
        for table, rows in (("token_embedding", self.vocabulary), ("position_embedding", self.positions)):
            yield _kept(f"embeddings.{table}.weight", (rows, self.width))
        for layer in range(self.layers):
            yield from self._layer(f"encoder.layers.{layer}")
        yield from norm("final_layer_norm", "text_model.final_layer_norm", self.width)

    def _layer(self, source: str) -> Iterator[Rename]:
        target = f"text_model.{source}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from linear(f"{source}.self_attn.{name}", f"{target}.self_attn.{name}", self.width, self.width)
        yield from norm(f"{source}.layer_norm1", f"{target}.layer_norm1", self.width)
        yield from linear(f"{source}.mlp.fc1", f"{target}.mlp.fc1", self.width, self.inner)
        yield from linear(f"{source}.mlp.fc2", f"{target}.mlp.fc2", self.inner, self.width)
        yield from norm(f"{source}.layer_norm2", f"{target}.layer_norm2", self.width)


def _kept(name: str, shape: tuple[int, ...]) -> Rename:
    return renamed(name, f"text_model.{name}", shape)


@dataclass(frozen=True)
class OpenClip(Clip):
    """The tower of SD-2, which is read before its last layer; what nobody reads is left out, as diffusers does."""

    signature: ClassVar[str] = "transformer.resblocks."

    #: Of the 24 layers that were trained.
    READ: ClassVar[int] = 23

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        return cls(
            vocabulary=width(shapes, "token_embedding.weight"),
            positions=width(shapes, "positional_embedding"),
            width=width(shapes, "token_embedding.weight", 1),
            layers=min(cls.READ, count(shapes, "transformer.resblocks.")),
            inner=width(shapes, "transformer.resblocks.0.mlp.c_fc.weight"),
        )

    def config(self) -> dict[str, Any]:
        return {**super().config(), "hidden_act": "gelu", "pad_token_id": PADDING_TOKEN}

    def renames(self) -> Iterator[Rename]:
        tables = (
            ("token_embedding.weight", "token", self.vocabulary),
            ("positional_embedding", "position", self.positions),
        )
        for source, table, rows in tables:
            yield renamed(source, f"text_model.embeddings.{table}_embedding.weight", (rows, self.width))
        for layer in range(self.layers):
            yield from self._layer(f"{layer}")
        yield from norm("ln_final", "text_model.final_layer_norm", self.width)

    def _layer(self, number: str) -> Iterator[Rename]:
        source, target = f"transformer.resblocks.{number}", f"text_model.encoder.layers.{number}"
        heads = [f"{target}.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj")]
        # One matrix for all three, whose names end in "_weight" and "_bias".
        for place, head in enumerate(heads):
            first, all_rows = place * self.width, 3 * self.width
            weight = (self.width, self.width)
            yield cut(f"{source}.attn.in_proj_weight", f"{head}.weight", weight, first, all_rows)
            yield cut(f"{source}.attn.in_proj_bias", f"{head}.bias", weight[:1], first, all_rows)
        yield from linear(f"{source}.attn.out_proj", f"{target}.self_attn.out_proj", self.width, self.width)
        yield from norm(f"{source}.ln_1", f"{target}.layer_norm1", self.width)
        yield from linear(f"{source}.mlp.c_fc", f"{target}.mlp.fc1", self.width, self.inner)
        yield from linear(f"{source}.mlp.c_proj", f"{target}.mlp.fc2", self.inner, self.width)
        yield from norm(f"{source}.ln_2", f"{target}.layer_norm2", self.width)


@dataclass(frozen=True)
class OpenClipProjected(OpenClip):
    """The tower of SDXL: all its layers, and the projection of the pooled text, which transformers keeps turned."""

    READ: ClassVar[int] = MAX_MODULES

    #: Width of the pooled text.
    projection: int = 0

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        return replace(super().infer(shapes), projection=width(shapes, "text_projection", 1))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return replace(super().from_config(config), projection=config["projection_dim"])

    def config(self) -> dict[str, Any]:
        words = {"architectures": ["CLIPTextModelWithProjection"], "projection_dim": self.projection}
        return {**super().config(), **words}

    def renames(self) -> Iterator[Rename]:
        yield from super().renames()
        yield transposed("text_projection", "text_projection.weight", (self.projection, self.width))
