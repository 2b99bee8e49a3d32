"""The transformer of Stable Diffusion 3 and 3.5 (MMDiT, MMDiT-X): names, shapes and config, for any width and depth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from invokeai_daemon.models.convert.layout import (
    Rename,
    Shapes,
    conv,
    count,
    has,
    linear,
    linears_cut,
    renamed,
    swapped,
    width,
)

#: Every published model splits its width into heads of this many values.
HEAD_WIDTH = 64
#: Latent pixels per side of the pictures it was trained for: 1024 / 8.
SAMPLE_SIZE = 128


@dataclass(frozen=True)
class MMDiT:
    """A joint block works on text and picture side by side; the last one does not hand the text on."""

    signature: ClassVar[str] = "joint_blocks."

    in_channels: int
    out_channels: int
    #: Latent pixels per side of a patch.
    patch: int
    width: int
    #: Width inside the feed-forward layers.
    inner: int
    layers: int
    #: Width of the joined text encoders' hidden states, and of their pooled vectors.
    context: int
    pooled: int
    #: Patches per side of the table of positions.
    positions: int
    #: Whether queries and keys are normalised (3.5).
    normalises: bool
    head_width: int
    #: Layers in which the picture also attends to itself alone (3.5 medium).
    dual_layers: tuple[int, ...]
    #: Values of the sinusoidal embedding of the timestep.
    time: int

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        layers = count(shapes, "joint_blocks.")
        patch = width(shapes, "x_embedder.proj.weight", 2)
        normalises = has(shapes, "joint_blocks.0.x_block.attn.ln_q.")
        return cls(
            in_channels=width(shapes, "x_embedder.proj.weight", 1),
            out_channels=width(shapes, "final_layer.linear.weight") // max(1, patch * patch),
            patch=patch,
            width=width(shapes, "x_embedder.proj.weight"),
            inner=width(shapes, "joint_blocks.0.x_block.mlp.fc1.weight"),
            layers=layers,
            context=width(shapes, "context_embedder.weight", 1),
            pooled=width(shapes, "y_embedder.mlp.0.weight", 1),
            positions=math.isqrt(width(shapes, "pos_embed", 1)),
            normalises=normalises,
            head_width=width(shapes, "joint_blocks.0.x_block.attn.ln_q.weight") if normalises else HEAD_WIDTH,
            dual_layers=tuple(i for i in range(layers) if has(shapes, f"joint_blocks.{i}.x_block.attn2.")),
            time=width(shapes, "t_embedder.mlp.0.weight", 1),
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        wide = config["num_attention_heads"] * config["attention_head_dim"]
        return cls(
            in_channels=config["in_channels"],
            out_channels=config["out_channels"],
            patch=config["patch_size"],
            width=wide,
            inner=4 * wide,
            layers=config["num_layers"],
            context=config["joint_attention_dim"],
            pooled=config["pooled_projection_dim"],
            positions=config["pos_embed_max_size"],
            normalises=config["qk_norm"] is not None,
            head_width=config["attention_head_dim"],
            dual_layers=tuple(config["dual_attention_layers"]),
            time=256,
        )

    def config(self) -> dict[str, Any]:
        return {
            "_class_name": "SD3Transformer2DModel",
            "sample_size": SAMPLE_SIZE,
            "patch_size": self.patch,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "num_layers": self.layers,
            "attention_head_dim": self.head_width,
            "num_attention_heads": self.width // self.head_width,
            "joint_attention_dim": self.context,
            "caption_projection_dim": self.width,
            "pooled_projection_dim": self.pooled,
            "pos_embed_max_size": self.positions,
            "dual_attention_layers": list(self.dual_layers),
            "qk_norm": "rms_norm" if self.normalises else None,
        }

    def renames(self) -> Iterator[Rename]:
        yield renamed("pos_embed", "pos_embed.pos_embed", (1, self.positions**2, self.width))
        yield from conv("x_embedder.proj", "pos_embed.proj", self.in_channels, self.width, self.patch)
        yield from self._embedder("t_embedder", "timestep_embedder", self.time)
        yield from self._embedder("y_embedder", "text_embedder", self.pooled)
        yield from linear("context_embedder", "context_embedder", self.context, self.width)
        for layer in range(self.layers):
            yield from self._picture(layer)
            yield from self._text(layer)
        yield from self._swapped("final_layer.adaLN_modulation.1", "norm_out.linear")
        yield from linear("final_layer.linear", "proj_out", self.width, self.patch**2 * self.out_channels)

    def _embedder(self, source: str, target: str, inputs: int) -> Iterator[Rename]:
        target = f"time_text_embed.{target}"
        yield from linear(f"{source}.mlp.0", f"{target}.linear_1", inputs, self.width)
        yield from linear(f"{source}.mlp.2", f"{target}.linear_2", self.width, self.width)

    def _picture(self, layer: int) -> Iterator[Rename]:
        source, target = f"joint_blocks.{layer}.x_block", f"transformer_blocks.{layer}"
        # Shift, scale and gate of the attention and of the feed-forward layers, and of the second attention.
        modulated = 9 if layer in self.dual_layers else 6
        yield from linear(f"{source}.adaLN_modulation.1", f"{target}.norm1.linear", self.width, modulated * self.width)
        for attention in ("attn", "attn2") if layer in self.dual_layers else ("attn",):
            names = ("to_q", "to_k", "to_v"), ("norm_q", "norm_k")
            yield from self._attention(f"{source}.{attention}", f"{target}.{attention}", *names)
            yield from linear(f"{source}.{attention}.proj", f"{target}.{attention}.to_out.0", self.width, self.width)
        yield from self._feed(f"{source}.mlp", f"{target}.ff")

    def _text(self, layer: int) -> Iterator[Rename]:
        source, target = f"joint_blocks.{layer}.context_block", f"transformer_blocks.{layer}"
        names = ("add_q_proj", "add_k_proj", "add_v_proj"), ("norm_added_q", "norm_added_k")
        yield from self._attention(f"{source}.attn", f"{target}.attn", *names)
        modulation = f"{source}.adaLN_modulation.1", f"{target}.norm1_context.linear"
        if layer == self.layers - 1:
            yield from self._swapped(*modulation)
            return
        yield from linear(*modulation, self.width, 6 * self.width)
        yield from linear(f"{source}.attn.proj", f"{target}.attn.to_add_out", self.width, self.width)
        yield from self._feed(f"{source}.mlp", f"{target}.ff_context")

    def _attention(
        self, source: str, target: str, projections: tuple[str, ...], norms: tuple[str, ...]
    ) -> Iterator[Rename]:
        heads = [f"{target}.{name}" for name in projections]
        yield from linears_cut(f"{source}.qkv", heads, self.width, self.width)
        if self.normalises:
            for old, new in zip(("ln_q", "ln_k"), norms, strict=True):
                yield renamed(f"{source}.{old}.weight", f"{target}.{new}.weight", (self.head_width,))

    def _feed(self, source: str, target: str) -> Iterator[Rename]:
        yield from linear(f"{source}.fc1", f"{target}.net.0.proj", self.width, self.inner)
        yield from linear(f"{source}.fc2", f"{target}.net.2", self.inner, self.width)

    def _swapped(self, source: str, target: str) -> Iterator[Rename]:
        """The original says shift, then scale; diffusers' normalisation wants scale, then shift."""
        for name, shape in (("weight", (2 * self.width, self.width)), ("bias", (2 * self.width,))):
            yield swapped(f"{source}.{name}", f"{target}.{name}", shape)
