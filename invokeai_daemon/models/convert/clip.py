"""The CLIP text encoder of Stable Diffusion 1: names, shapes and config, for any width and depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from invokeai_daemon.models.convert.layout import Rename, Shapes, count, linear, norm, renamed, width

#: Every CLIP tower is as many heads wide as 64 goes into its width.
HEAD_WIDTH = 64
START_TOKEN, END_TOKEN = 49406, 49407


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
