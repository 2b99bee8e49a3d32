"""The VAE of Stable Diffusion and its successors: names, shapes and config, for any widths and depths.

`Vae` has the original code's names; `DiffusersVae` is the same in a file that has diffusers' names already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from invokeai_daemon.models.convert.layout import (
    Rename,
    Shapes,
    conv,
    count,
    has,
    linear,
    norm,
    norm_groups,
    renamed,
    width,
)

#: Latents times this have about unit deviation. No tensor tells it; SD-1 and SD-2 keep to it, others say their own.
SCALING_FACTOR = 0.18215


@dataclass(frozen=True)
class Vae:
    """`widths` has one value per level, from the finest to the coarsest."""

    signature: ClassVar[str] = "encoder.down."
    #: What the residual blocks of a level are called.
    block: ClassVar[str] = "block"

    in_channels: int
    out_channels: int
    latent_channels: int
    widths: tuple[int, ...]
    #: Residual blocks of a level of the encoder; the decoder has one more.
    depth: int
    #: 1×1 convolutions around the latents, which the VAEs of SD-3 and FLUX have not.
    quant: bool = True

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        levels = count(shapes, cls.signature)
        return cls(
            in_channels=width(shapes, "encoder.conv_in.weight", 1),
            out_channels=width(shapes, "decoder.conv_out.weight"),
            latent_channels=width(shapes, "decoder.conv_in.weight", 1),
            widths=tuple(width(shapes, f"{cls.signature}{i}.{cls.block}.0.conv1.weight") for i in range(levels)),
            depth=count(shapes, f"{cls.signature}0.{cls.block}."),
            quant=has(shapes, "quant_conv.") or has(shapes, "post_quant_conv."),
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(
            in_channels=config["in_channels"],
            out_channels=config["out_channels"],
            latent_channels=config["latent_channels"],
            widths=tuple(config["block_out_channels"]),
            depth=config["layers_per_block"],
            quant=config.get("use_quant_conv", True),
        )

    def config(self) -> dict[str, Any]:
        return {
            "_class_name": "AutoencoderKL",
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "latent_channels": self.latent_channels,
            "block_out_channels": list(self.widths),
            "down_block_types": ["DownEncoderBlock2D"] * len(self.widths),
            "up_block_types": ["UpDecoderBlock2D"] * len(self.widths),
            "layers_per_block": self.depth,
            "act_fn": "silu",
            "norm_num_groups": norm_groups(self.widths[0]),
            "sample_size": 512,
            "scaling_factor": SCALING_FACTOR,
            **({} if self.quant else {"use_quant_conv": False, "use_post_quant_conv": False}),
        }

    def renames(self) -> Iterator[Rename]:
        latents = self.latent_channels
        yield from self._encoder()
        if self.quant:
            yield from conv("quant_conv", "quant_conv", 2 * latents, 2 * latents, kernel=1)
            yield from conv("post_quant_conv", "post_quant_conv", latents, latents, kernel=1)
        yield from self._decoder()

    def _encoder(self) -> Iterator[Rename]:
        yield from conv("encoder.conv_in", "encoder.conv_in", self.in_channels, self.widths[0])
        inputs = self.widths[0]
        for level, outputs in enumerate(self.widths):
            source, target = f"encoder.down.{level}", f"encoder.down_blocks.{level}"
            for place in range(self.depth):
                yield from _residual(f"{source}.block.{place}", f"{target}.resnets.{place}", inputs, outputs)
                inputs = outputs
            if level < len(self.widths) - 1:
                yield from conv(f"{source}.downsample.conv", f"{target}.downsamplers.0.conv", outputs, outputs)
        yield from _middle("encoder", inputs)
        yield from norm("encoder.norm_out", "encoder.conv_norm_out", inputs)
        yield from conv("encoder.conv_out", "encoder.conv_out", inputs, 2 * self.latent_channels)

    def _decoder(self) -> Iterator[Rename]:
        inputs = self.widths[-1]
        yield from conv("decoder.conv_in", "decoder.conv_in", self.latent_channels, inputs)
        yield from _middle("decoder", inputs)
        for level, outputs in reversed(list(enumerate(self.widths))):
            # The single file counts levels from the finest, diffusers in the order in which they run.
            source, target = f"decoder.up.{level}", f"decoder.up_blocks.{len(self.widths) - 1 - level}"
            for place in range(self.depth + 1):
                yield from _residual(f"{source}.block.{place}", f"{target}.resnets.{place}", inputs, outputs)
                inputs = outputs
            if level > 0:
                yield from conv(f"{source}.upsample.conv", f"{target}.upsamplers.0.conv", outputs, outputs)
        yield from norm("decoder.norm_out", "decoder.conv_norm_out", inputs)
        yield from conv("decoder.conv_out", "decoder.conv_out", inputs, self.out_channels)


#: What diffusers once called the layers of the VAE's attention, by what it calls them now.
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@dataclass(frozen=True)
class DiffusersVae(Vae):
    """The same under diffusers' names, in a file without its config."""

    signature: ClassVar[str] = "encoder.down_blocks."
    block: ClassVar[str] = "resnets"

    #: Written by a diffusers before 0.17.
    old_names: bool = False

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        return replace(super().infer(shapes), old_names=has(shapes, "encoder.mid_block.attentions.0.query."))

    def renames(self) -> Iterator[Rename]:
        for rename in super().renames():
            yield renamed(self._own(rename.target), rename.target, rename.shape)

    def _own(self, name: str) -> str:
        if self.old_names and ".attentions.0." in name:
            for new, old in OLD_NAMES.items():
                name = name.replace(f".{new}.", f".{old}.")
        return name


def _middle(coder: str, channels: int) -> Iterator[Rename]:
    source, target = f"{coder}.mid", f"{coder}.mid_block"
    yield from _residual(f"{source}.block_1", f"{target}.resnets.0", channels, channels)
    yield from norm(f"{source}.attn_1.norm", f"{target}.attentions.0.group_norm", channels)
    for old, new in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
        # 1×1 convolutions in the single file; the same bytes are a matrix here.
        yield from linear(f"{source}.attn_1.{old}", f"{target}.attentions.0.{new}", channels, channels)
    yield from _residual(f"{source}.block_2", f"{target}.resnets.1", channels, channels)


def _residual(source: str, target: str, inputs: int, outputs: int) -> Iterator[Rename]:
    yield from norm(f"{source}.norm1", f"{target}.norm1", inputs)
    yield from conv(f"{source}.conv1", f"{target}.conv1", inputs, outputs)
    yield from norm(f"{source}.norm2", f"{target}.norm2", outputs)
    yield from conv(f"{source}.conv2", f"{target}.conv2", outputs, outputs)
    if inputs != outputs:
        yield from conv(f"{source}.nin_shortcut", f"{target}.conv_shortcut", inputs, outputs, kernel=1)
