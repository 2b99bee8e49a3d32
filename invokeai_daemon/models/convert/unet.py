"""The UNet of Stable Diffusion 1, 2 and XL: names, shapes and config, for any widths and depths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from invokeai_daemon.models.convert.layout import Rename, Shapes, conv, count, has, linear, norm, norm_groups, width

#: Stable Diffusion 1 splits every attention into this many heads, whatever the width.
HEADS = 8
#: Its successors, whose projections are linear layers, make every head this wide.
HEAD_WIDTH = 64
#: Latent pixels per side when nothing else is known: 512 / 8.
SAMPLE_SIZE = 64
#: What each size or crop of SDXL's condition is embedded in.
TIME_WIDTH = 256


@dataclass(frozen=True)
class UNet:
    """`widths` and `attention` have one value per level, from the finest to the coarsest."""

    signature: ClassVar[str] = "input_blocks."
    #: What diffusers calls the layers of the condition that is added to the time, and what it wants to know of them.
    VECTOR: ClassVar[str] = "class_embedding"
    VECTOR_WORDS: ClassVar[Mapping[str, Any]] = {"class_embed_type": "projection"}

    in_channels: int
    out_channels: int
    widths: tuple[int, ...]
    #: Transformer blocks of each attention of a level; 0 where the level has none.
    attention: tuple[int, ...]
    #: Residual blocks of a level on the way down; there is one more on the way up.
    depth: int
    #: Width of the text conditioning.
    context: int
    #: Transformer blocks of the attention in the middle.
    middle: int = 1
    #: Attentions begin and end with linear layers, not with 1×1 convolutions.
    linear: bool = False
    #: Width of the condition that is added to the time; 0: there is none.
    vector: int = 0

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        return cls.infer_down(shapes, width(shapes, "out.2.weight"))

    @classmethod
    def infer_down(cls, shapes: Shapes, out_channels: int) -> Self:
        """From the way down and the middle, which also a ControlNet has."""
        blocks = count(shapes, "input_blocks.")
        downs = [i for i in range(1, blocks) if has(shapes, f"input_blocks.{i}.0.op.")]
        depth = (downs[0] if downs else blocks) - 1
        first = [1 + level * (depth + 1) for level in range(len(downs) + 1)]
        return cls(
            in_channels=width(shapes, "input_blocks.0.0.weight", 1),
            out_channels=out_channels,
            widths=tuple(width(shapes, f"input_blocks.{i}.0.out_layers.3.weight") for i in first),
            attention=tuple(count(shapes, f"input_blocks.{i}.1.transformer_blocks.") for i in first),
            depth=depth,
            context=width(shapes, "middle_block.1.transformer_blocks.0.attn2.to_k.weight", 1),
            middle=count(shapes, "middle_block.1.transformer_blocks."),
            linear=len(shapes.get("middle_block.1.proj_in.weight", ())) == 2,
            vector=width(shapes, "label_emb.0.0.weight", 1) if has(shapes, "label_emb.0.0.") else 0,
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        attends = ["CrossAttn" in kind for kind in config["down_block_types"]]
        layers = config.get("transformer_layers_per_block", 1)
        layers = [layers] * len(attends) if isinstance(layers, int) else layers
        return cls(
            in_channels=config["in_channels"],
            out_channels=config.get("out_channels", 0),
            widths=tuple(config["block_out_channels"]),
            attention=tuple(layer if attended else 0 for layer, attended in zip(layers, attends, strict=True)),
            depth=config["layers_per_block"],
            context=config["cross_attention_dim"],
            middle=layers[-1],
            linear=config.get("use_linear_projection", False),
            vector=config.get("projection_class_embeddings_input_dim") or 0,
        )

    def config(self) -> dict[str, Any]:
        up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(self.attention)]
        return {
            "_class_name": "UNet2DConditionModel",
            "sample_size": SAMPLE_SIZE,
            "out_channels": self.out_channels,
            "up_block_types": up,
            "center_input_sample": False,
            **self.config_down(),
        }

    def config_down(self) -> dict[str, Any]:
        """What a ControlNet's config has too."""
        return {
            "in_channels": self.in_channels,
            "block_out_channels": list(self.widths),
            "down_block_types": ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in self.attention],
            "mid_block_type": "UNetMidBlock2DCrossAttn",
            "layers_per_block": self.depth,
            "cross_attention_dim": self.context,
            "transformer_layers_per_block": self._layers(),
            # diffusers reads the number of heads from here, a misnomer that it keeps for the sake of old configs.
            "attention_head_dim": [max(1, one // HEAD_WIDTH) for one in self.widths] if self.linear else HEADS,
            "use_linear_projection": self.linear,
            "act_fn": "silu",
            "downsample_padding": 1,
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            "mid_block_scale_factor": 1,
            "norm_eps": 1e-05,
            "norm_num_groups": norm_groups(self.widths[0]),
            **self._condition(),
        }

    def _layers(self) -> int | list[int]:
        """One number where it is the same everywhere. What stands last also counts for the middle."""
        numbers = {*self.attention, self.middle} - {0}
        if len(numbers) == 1:
            return self.middle
        return [layers or 1 for layers in self.attention[:-1]] + [self.attention[-1] or self.middle]

    def _condition(self) -> dict[str, Any]:
        return {**self.VECTOR_WORDS, "projection_class_embeddings_input_dim": self.vector} if self.vector else {}

    def renames(self) -> Iterator[Rename]:
        yield from self.renames_down()
        yield from self._up()
        yield from norm("out.0", "conv_norm_out", self.widths[0])
        yield from conv("out.2", "conv_out", self.widths[0], self.out_channels)

    def renames_down(self) -> Iterator[Rename]:
        """What a ControlNet has too: the times, the way down and the middle."""
        finest, coarsest = self.widths[0], self.widths[-1]
        yield from linear("time_embed.0", "time_embedding.linear_1", finest, self._time)
        yield from linear("time_embed.2", "time_embedding.linear_2", self._time, self._time)
        if self.vector:
            yield from linear("label_emb.0.0", f"{self.VECTOR}.linear_1", self.vector, self._time)
            yield from linear("label_emb.0.2", f"{self.VECTOR}.linear_2", self._time, self._time)
        yield from conv("input_blocks.0.0", "conv_in", self.in_channels, finest)
        yield from self._down()
        yield from self._residual("middle_block.0", "mid_block.resnets.0", coarsest, coarsest)
        yield from self._transformer("middle_block.1", "mid_block.attentions.0", coarsest, self.middle)
        yield from self._residual("middle_block.2", "mid_block.resnets.1", coarsest, coarsest)

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
                    yield from self._transformer(
                        f"input_blocks.{block}.1", f"{target}.attentions.{place}", outputs, attends
                    )
                block, inputs = block + 1, outputs
            if level < len(self.widths) - 1:
                source = f"input_blocks.{block}.0.op"
                yield from conv(source, f"down_blocks.{level}.downsamplers.0.conv", outputs, outputs)
                block += 1

    def skips(self) -> list[int]:
        """Widths of what the way down hands to the way up, in the order in which it is made."""
        widths = [self.widths[0]]
        for level, outputs in enumerate(self.widths):
            down = level < len(self.widths) - 1
            widths += [outputs] * (self.depth + down)
        return widths

    def _up(self) -> Iterator[Rename]:
        block, inputs, skips = 0, self.widths[-1], self.skips()
        levels = list(zip(reversed(self.widths), reversed(self.attention), strict=True))
        for level, (outputs, attends) in enumerate(levels):
            target = f"up_blocks.{level}"
            for place in range(self.depth + 1):
                source = f"output_blocks.{block}"
                yield from self._residual(f"{source}.0", f"{target}.resnets.{place}", inputs + skips.pop(), outputs)
                if attends:
                    yield from self._transformer(f"{source}.1", f"{target}.attentions.{place}", outputs, attends)
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

    def _transformer(self, source: str, target: str, channels: int, blocks: int) -> Iterator[Rename]:
        yield from norm(f"{source}.norm", f"{target}.norm", channels)
        yield from self._projection(f"{source}.proj_in", f"{target}.proj_in", channels)
        for number in range(blocks):
            block = f"transformer_blocks.{number}"
            yield from self._transformer_block(f"{source}.{block}", f"{target}.{block}", channels)
        yield from self._projection(f"{source}.proj_out", f"{target}.proj_out", channels)

    def _projection(self, source: str, target: str, channels: int) -> Iterator[Rename]:
        if self.linear:
            return linear(source, target, channels, channels)
        return conv(source, target, channels, channels, kernel=1)

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


@dataclass(frozen=True)
class XlUNet(UNet):
    """That of SDXL and its refiner, where the condition is a pooled text with sizes and crops."""

    VECTOR: ClassVar[str] = "add_embedding"
    VECTOR_WORDS: ClassVar[Mapping[str, Any]] = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": TIME_WIDTH,
    }
