"""The transformer of FLUX.1: names, shapes and config, for any widths and depths (dev, schnell, fill, canny, depth)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from invokeai_daemon.models.convert.layout import (
    Rename,
    Shapes,
    count,
    cut,
    has,
    linear,
    linears_cut,
    renamed,
    swapped,
    width,
)

#: Of the axes of a rotary position, the first (time, unused for pictures) turns an eighth of a head's values, row and
#: column share the rest: 16, 56 and 56 of 128.
FIRST_AXIS_SHARE = 8


@dataclass(frozen=True)
class Flux:
    """A double block works on text and picture side by side, a single block on both in one row."""

    signature: ClassVar[str] = "double_blocks."

    #: Values of one patch (2 × 2 latent pixels) and of what the picture is conditioned on.
    in_channels: int
    out_channels: int
    width: int
    #: Width inside the feed-forward layers.
    inner: int
    head_width: int
    double_blocks: int
    single_blocks: int
    #: Width of the T5 encoder's hidden states, and of CLIP's pooled vector.
    context: int
    pooled: int
    #: Whether it was distilled to take the guidance as a number.
    guidance: bool
    #: Values of the sinusoidal embedding of the timestep.
    time: int

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        return cls(
            in_channels=width(shapes, "img_in.weight", 1),
            out_channels=width(shapes, "final_layer.linear.weight"),
            width=width(shapes, "img_in.weight"),
            inner=width(shapes, "double_blocks.0.img_mlp.0.weight"),
            head_width=width(shapes, "double_blocks.0.img_attn.norm.key_norm.scale"),
            double_blocks=count(shapes, "double_blocks."),
            single_blocks=count(shapes, "single_blocks."),
            context=width(shapes, "txt_in.weight", 1),
            pooled=width(shapes, "vector_in.in_layer.weight", 1),
            guidance=has(shapes, "guidance_in."),
            time=width(shapes, "time_in.in_layer.weight", 1),
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        wide = config["num_attention_heads"] * config["attention_head_dim"]
        return cls(
            in_channels=config["in_channels"],
            out_channels=config["out_channels"] or config["in_channels"],
            width=wide,
            inner=4 * wide,
            head_width=config["attention_head_dim"],
            double_blocks=config["num_layers"],
            single_blocks=config["num_single_layers"],
            context=config["joint_attention_dim"],
            pooled=config["pooled_projection_dim"],
            guidance=config["guidance_embeds"],
            time=256,
        )

    def config(self) -> dict[str, Any]:
        first = self.head_width // FIRST_AXIS_SHARE
        return {
            "_class_name": "FluxTransformer2DModel",
            "patch_size": 1,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "num_layers": self.double_blocks,
            "num_single_layers": self.single_blocks,
            "attention_head_dim": self.head_width,
            "num_attention_heads": self.width // self.head_width,
            "joint_attention_dim": self.context,
            "pooled_projection_dim": self.pooled,
            "guidance_embeds": self.guidance,
            "axes_dims_rope": [first, (self.head_width - first) // 2, (self.head_width - first) // 2],
        }

    def renames(self) -> Iterator[Rename]:
        yield from linear("img_in", "x_embedder", self.in_channels, self.width)
        yield from linear("txt_in", "context_embedder", self.context, self.width)
        yield from self._embedder("time_in", "timestep_embedder", self.time)
        yield from self._embedder("vector_in", "text_embedder", self.pooled)
        if self.guidance:
            yield from self._embedder("guidance_in", "guidance_embedder", self.time)
        for place in range(self.double_blocks):
            yield from self._double(f"double_blocks.{place}", f"transformer_blocks.{place}")
        for place in range(self.single_blocks):
            yield from self._single(f"single_blocks.{place}", f"single_transformer_blocks.{place}")
        # The original says shift, then scale; diffusers' normalisation wants scale, then shift.
        for name, shape in (("weight", (2 * self.width, self.width)), ("bias", (2 * self.width,))):
            yield swapped(f"final_layer.adaLN_modulation.1.{name}", f"norm_out.linear.{name}", shape)
        yield from linear("final_layer.linear", "proj_out", self.width, self.out_channels)

    def _embedder(self, source: str, target: str, inputs: int) -> Iterator[Rename]:
        target = f"time_text_embed.{target}"
        yield from linear(f"{source}.in_layer", f"{target}.linear_1", inputs, self.width)
        yield from linear(f"{source}.out_layer", f"{target}.linear_2", self.width, self.width)

    def _double(self, source: str, target: str) -> Iterator[Rename]:
        streams = (
            ("img", "norm1", ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"), "to_out.0", "ff"),
            (
                "txt",
                "norm1_context",
                ("add_q_proj", "add_k_proj", "add_v_proj"),
                ("norm_added_q", "norm_added_k"),
                "to_add_out",
                "ff_context",
            ),
        )
        for stream, norm, projections, norms, out, feed in streams:
            yield from linear(f"{source}.{stream}_mod.lin", f"{target}.{norm}.linear", self.width, 6 * self.width)
            heads = [f"{target}.attn.{name}" for name in projections]
            yield from linears_cut(f"{source}.{stream}_attn.qkv", heads, self.width, self.width)
            yield from self._norms(f"{source}.{stream}_attn.norm", f"{target}.attn", norms)
            yield from linear(f"{source}.{stream}_attn.proj", f"{target}.attn.{out}", self.width, self.width)
            yield from linear(f"{source}.{stream}_mlp.0", f"{target}.{feed}.net.0.proj", self.width, self.inner)
            yield from linear(f"{source}.{stream}_mlp.2", f"{target}.{feed}.net.2", self.inner, self.width)

    def _single(self, source: str, target: str) -> Iterator[Rename]:
        yield from linear(f"{source}.modulation.lin", f"{target}.norm.linear", self.width, 3 * self.width)
        yield from self._fused(f"{source}.linear1", target)
        yield from self._norms(f"{source}.norm", f"{target}.attn", ("norm_q", "norm_k"))
        yield from linear(f"{source}.linear2", f"{target}.proj_out", self.width + self.inner, self.width)

    def _fused(self, source: str, target: str) -> Iterator[Rename]:
        """Queries, keys, values and the way into the feed-forward layer in one matrix."""
        parts = [*((f"attn.{name}", self.width) for name in ("to_q", "to_k", "to_v")), ("proj_mlp", self.inner)]
        first, of = 0, 3 * self.width + self.inner
        for name, size in parts:
            yield cut(f"{source}.weight", f"{target}.{name}.weight", (size, self.width), first, of)
            yield cut(f"{source}.bias", f"{target}.{name}.bias", (size,), first, of)
            first += size

    def _norms(self, source: str, target: str, names: tuple[str, str]) -> Iterator[Rename]:
        for old, new in zip(("query_norm", "key_norm"), names, strict=True):
            yield renamed(f"{source}.{old}.scale", f"{target}.{new}.weight", (self.head_width,))
