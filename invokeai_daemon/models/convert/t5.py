"""The T5 text encoder (T5-XXL v1.1 in SD 3 and FLUX.1): names, shapes and config, for any width and depth.

Single files hold it under transformers' own names, below a prefix or alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from invokeai_daemon.models.convert.layout import Rename, Shapes, count, renamed, width

SHARED = "shared.weight"
_BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias"


@dataclass(frozen=True)
class T5:
    """The encoder half alone; the decoder of a whole T5 is left out."""

    signature: ClassVar[str] = "encoder.block."

    vocabulary: int
    width: int
    layers: int
    #: Width inside the feed-forward layers.
    inner: int
    heads: int
    #: Values of one head.
    head_width: int
    #: Kinds of distance between words that attention tells apart.
    buckets: int
    #: The name of the vectors of the words, which a whole T5 shares with its decoder.
    table: str = SHARED

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        heads = width(shapes, f"{_BIAS}.weight", 1)
        table = SHARED if SHARED in shapes else "encoder.embed_tokens.weight"
        return cls(
            vocabulary=width(shapes, table),
            width=width(shapes, table, 1),
            layers=count(shapes, "encoder.block."),
            inner=width(shapes, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"),
            heads=heads,
            head_width=width(shapes, "encoder.block.0.layer.0.SelfAttention.q.weight") // max(1, heads),
            buckets=width(shapes, f"{_BIAS}.weight"),
            table=table,
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(
            vocabulary=config["vocab_size"],
            width=config["d_model"],
            layers=config["num_layers"],
            inner=config["d_ff"],
            heads=config["num_heads"],
            head_width=config["d_kv"],
            buckets=config["relative_attention_num_buckets"],
        )

    def config(self) -> dict[str, Any]:
        return {
            "architectures": ["T5EncoderModel"],
            "model_type": "t5",
            "vocab_size": self.vocabulary,
            "d_model": self.width,
            "d_kv": self.head_width,
            "d_ff": self.inner,
            "num_layers": self.layers,
            "num_heads": self.heads,
            "relative_attention_num_buckets": self.buckets,
            "relative_attention_max_distance": 128,
            "feed_forward_proj": "gated-gelu",
            "dense_act_fn": "gelu_new",
            "is_gated_act": True,
            "is_encoder_decoder": True,
            "use_cache": True,
            "tie_word_embeddings": False,
            "layer_norm_epsilon": 1e-06,
            "initializer_factor": 1.0,
            "dropout_rate": 0.1,
            "decoder_start_token_id": 0,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "dtype": "float32",
        }

    def renames(self) -> Iterator[Rename]:
        yield renamed(self.table, SHARED, (self.vocabulary, self.width))
        yield _kept(f"{_BIAS}.weight", self.buckets, self.heads)
        attention = self.heads * self.head_width
        for layer in range(self.layers):
            block = f"encoder.block.{layer}.layer"
            for name in ("q", "k", "v"):
                yield _kept(f"{block}.0.SelfAttention.{name}.weight", attention, self.width)
            yield _kept(f"{block}.0.SelfAttention.o.weight", self.width, attention)
            yield _kept(f"{block}.0.layer_norm.weight", self.width)
            for name in ("wi_0", "wi_1"):
                yield _kept(f"{block}.1.DenseReluDense.{name}.weight", self.inner, self.width)
            yield _kept(f"{block}.1.DenseReluDense.wo.weight", self.width, self.inner)
            yield _kept(f"{block}.1.layer_norm.weight", self.width)
        yield _kept("encoder.final_layer_norm.weight", self.width)


def _kept(name: str, *shape: int) -> Rename:
    return renamed(name, name, shape)
