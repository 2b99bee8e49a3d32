"""The UNet of Stable Diffusion 1: names, shapes and config, for any widths and depths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from invokeai_daemon.models.convert.layout import Rename, Shapes, conv, count, has, linear, norm, norm_groups, width

#: Stable Diffusion 1 splits every attention into this many heads, whatever the width. diffusers reads the number of
#: heads of such a model from `attention_head_dim`, a misnomer that it keeps for the sake of old configs.
HEADS = 8
#: Latent pixels per side when nothing else is known: 512 / 8.
SAMPLE_SIZE = 64


@dataclass(frozen=True)
class UNet:
    """`widths` and `attention` have one value per level, from the finest to the coarsest."""

    signature: ClassVar[str] = "input_blocks."

    in_channels: int
    out_channels: int
    widths: tuple[int, ...]
    attention: tuple[bool, ...]
    #: Residual blocks of a level on the way down; there is one more on the way up.
    depth: int
    #: Width of the text conditioning.
    context: int

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        blocks = count(shapes, "input_blocks.")
        downs = [i for i in range(1, blocks) if has(shapes, f"input_blocks.{i}.0.op.")]
        depth = (downs[0] if downs else blocks) - 1
        first = [1 + level * (depth + 1) for level in range(len(downs) + 1)]
        attention = tuple(has(shapes, f"input_blocks.{i}.1.") for i in first)
        return cls(
            in_channels=width(shapes, "input_blocks.0.0.weight", 1),
            out_channels=width(shapes, "out.2.weight"),
            widths=tuple(width(shapes, f"input_blocks.{i}.0.out_layers.3.weight") for i in first),
            attention=attention,
            depth=depth,
            context=width(shapes, "middle_block.1.transformer_blocks.0.attn2.to_k.weight", 1),
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(
            in_channels=config["in_channels"],
            out_channels=config["out_channels"],
            widths=tuple(config["block_out_channels"]),
            attention=tuple("CrossAttn" in kind for kind in config["down_block_types"]),
            depth=config["layers_per_block"],
            context=config["cross_attention_dim"],
        )

    def config(self) -> dict[str, Any]:
        down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in self.attention]
        up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(self.attention)]
        return {
            "_class_name": "UNet2DConditionModel",
            "sample_size": SAMPLE_SIZE,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "block_out_channels": list(self.widths),
            "down_block_types": down,
            "mid_block_type": "UNetMidBlock2DCrossAttn",
            "up_block_types": up,
            "layers_per_block": self.depth,
            "cross_attention_dim": self.context,
            "attention_head_dim": HEADS,
            "act_fn": "silu",
            "center_input_sample": False,
            "downsample_padding": 1,
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            "mid_block_scale_factor": 1,
            "norm_eps": 1e-05,
            "norm_num_groups": norm_groups(self.widths[0]),
        }

    def renames(self) -> Iterator[Rename]:
        finest, coarsest = self.widths[0], self.widths[-1]
        yield from linear("time_embed.0", "time_embedding.linear_1", finest, self._time)
        yield from linear("time_embed.2", "time_embedding.linear_2", self._time, self._time)
        yield from conv("input_blocks.0.0", "conv_in", self.in_channels, finest)
        yield from self._down()
        yield from self._residual("middle_block.0", "mid_block.resnets.0", coarsest, coarsest)
        yield from self._transformer("middle_block.1", "mid_block.attentions.0", coarsest)
        yield from self._residual("middle_block.2", "mid_block.resnets.1", coarsest, coarsest)
        yield from self._up()
        yield from norm("out.0", "conv_norm_out", finest)
        yield from conv("out.2", "conv_out", finest, self.out_channels)

    @property
    def _time(self) -> int:
        return 4 * self.widths[0]

    def _down(self) -> Iterator[Rename]:
        block, inputs = 1, self.widths[0]
        for level, (outputs, attends) in enumerate(zip(self.widths, self.attention, strict=True)):
            for place in range(self.depth):
                target = f"down_blocks.{level}"
                yield from self._residual(f"input_blocks.{block}.0", f"{target}.resnets.{place}", inputs, outputs)
                if attends:
                    yield from self._transformer(f"input_blocks.{block}.1", f"{target}.attentions.{place}", outputs)
                block, inputs = block + 1, outputs
            if level < len(self.widths) - 1:
                source = f"input_blocks.{block}.0.op"
                yield from conv(source, f"down_blocks.{level}.downsamplers.0.conv", outputs, outputs)
                block += 1

    def _skips(self) -> list[int]:
        """Widths of what the way down hands to the way up, in the order in which it is made."""
        widths = [self.widths[0]]
        for level, outputs in enumerate(self.widths):
            down = level < len(self.widths) - 1
            widths += [outputs] * (self.depth + down)
        return widths

    def _up(self) -> Iterator[Rename]:
        block, inputs, skips = 0, self.widths[-1], self._skips()
        levels = list(zip(reversed(self.widths), reversed(self.attention), strict=True))
        for level, (outputs, attends) in enumerate(levels):
            target = f"up_blocks.{level}"
            for place in range(self.depth + 1):
                source = f"output_blocks.{block}"
                yield from self._residual(f"{source}.0", f"{target}.resnets.{place}", inputs + skips.pop(), outputs)
                if attends:
                    yield from self._transformer(f"{source}.1", f"{target}.attentions.{place}", outputs)
                block, inputs = block + 1, outputs
            if level < len(levels) - 1:
                # The upsampler closes the level's last block, behind its attention if there is one.
                source = f"output_blocks.{block - 1}.{2 if attends else 1}.conv"
                yield from conv(source, f"{target}.upsamplers.0.conv", outputs, outputs)

    def _residual(self, source: str, target: str, inputs: int, outputs: int) -> Iterator[Rename]:
        yield from norm(f"{source}.in_layers.0", f"{target}.norm1", inputs)
        yield from conv(f"{source}.in_layers.2", f"{target}.conv1", inputs, outputs)
        yield from linear(f"{source}.emb_layers.1", f"{target}.time_emb_proj", self._time, outputs)
        yield from norm(f"{source}.out_layers.0", f"{target}.norm2", outputs)
        yield from conv(f"{source}.out_layers.3", f"{target}.conv2", outputs, outputs)
        if inputs != outputs:
            yield from conv(f"{source}.skip_connection", f"{target}.conv_shortcut", inputs, outputs, kernel=1)

    def _transformer(self, source: str, target: str, channels: int) -> Iterator[Rename]:
        yield from norm(f"{source}.norm", f"{target}.norm", channels)
        yield from conv(f"{source}.proj_in", f"{target}.proj_in", channels, channels, kernel=1)
        yield from self._transformer_block(f"{source}.transformer_blocks.0", f"{target}.transformer_blocks.0", channels)
        yield from conv(f"{source}.proj_out", f"{target}.proj_out", channels, channels, kernel=1)

    def _transformer_block(self, source: str, target: str, channels: int) -> Iterator[Rename]:
        for number, context in ((1, channels), (2, self.context)):
            yield from norm(f"{source}.norm{number}", f"{target}.norm{number}", channels)
            one, other = f"{source}.attn{number}", f"{target}.attn{number}"
            yield from linear(f"{one}.to_q", f"{other}.to_q", channels, channels, bias=False)
            yield from linear(f"{one}.to_k", f"{other}.to_k", context, channels, bias=False)
            yield from linear(f"{one}.to_v", f"{other}.to_v", context, channels, bias=False)
            yield from linear(f"{one}.to_out.0", f"{other}.to_out.0", channels, channels)
        yield from norm(f"{source}.norm3", f"{target}.norm3", channels)
        # A gated feed-forward: twice the inner width goes in, one half gates the other.
        yield from linear(f"{source}.ff.net.0.proj", f"{target}.ff.net.0.proj", channels, 8 * channels)
        yield from linear(f"{source}.ff.net.2", f"{target}.ff.net.2", 4 * channels, channels)
