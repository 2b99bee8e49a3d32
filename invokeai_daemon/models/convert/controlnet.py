"""ControlNets of SD-1, SD-2 and SDXL: the way down of a UNet, a way in for the hint, and a way out at every step.

`ControlNet` has the original code's names, `DiffusersControlNet` those of diffusers in a file without its config.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from invokeai_daemon.models.convert.layout import Rename, Shapes, conv, count, renamed, width
from invokeai_daemon.models.convert.unet import XlUNet

#: In the way in, an activation follows each convolution.
HINT_STEP = 2


@dataclass(frozen=True)
class ControlNet:
    """`unet` is the way down and the middle, without a way out; one that has a condition has that of SDXL."""

    signature: ClassVar[str] = "input_hint_block."

    unet: XlUNet
    hint_channels: int
    #: Widths of the way in, which halves the picture three times: 16, 32, 96, 256.
    hint_widths: tuple[int, ...]

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        # Every second convolution opens a new width; the last leads on to the UNet.
        hints = range(0, count(shapes, "input_hint_block.") - 1, 2 * HINT_STEP)
        return cls(
            unet=XlUNet.infer_down(shapes, 0),
            hint_channels=width(shapes, "input_hint_block.0.weight", 1),
            hint_widths=tuple(width(shapes, f"input_hint_block.{place}.weight") for place in hints),
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(
            unet=XlUNet.from_config({**config, "out_channels": 0}),
            hint_channels=config["conditioning_channels"],
            hint_widths=tuple(config["conditioning_embedding_out_channels"]),
        )

    def config(self) -> dict[str, Any]:
        return {
            "_class_name": "ControlNetModel",
            **self.unet.config_down(),
            "conditioning_channels": self.hint_channels,
            "conditioning_embedding_out_channels": list(self.hint_widths),
            "controlnet_conditioning_channel_order": "rgb",
        }

    def renames(self) -> Iterator[Rename]:
        yield from self.unet.renames_down()
        yield from self._hint()
        for place, channels in enumerate(self.unet.skips()):
            yield from conv(f"zero_convs.{place}.0", f"controlnet_down_blocks.{place}", channels, channels, kernel=1)
        coarsest = self.unet.widths[-1]
        yield from conv("middle_block_out.0", "controlnet_mid_block", coarsest, coarsest, kernel=1)

    def _hint(self) -> Iterator[Rename]:
        """A convolution in, for each step one that keeps the width and one that halves the picture, and one out."""
        source, target = "input_hint_block", "controlnet_cond_embedding"
        widths = self.hint_widths
        yield from conv(f"{source}.0", f"{target}.conv_in", self.hint_channels, widths[0])
        block = 0
        for inputs, outputs in itertools.pairwise(widths):
            for after in (inputs, outputs):
                place = HINT_STEP * (block + 1)
                yield from conv(f"{source}.{place}", f"{target}.blocks.{block}", inputs, after)
                block += 1
        place = HINT_STEP * (block + 1)
        yield from conv(f"{source}.{place}", f"{target}.conv_out", widths[-1], self.unet.widths[0])


@dataclass(frozen=True)
class DiffusersControlNet(ControlNet):
    """The same under diffusers' names."""

    signature: ClassVar[str] = "controlnet_cond_embedding."

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        blocks = count(shapes, "controlnet_cond_embedding.blocks.")
        hints = ["conv_in", *(f"blocks.{place}" for place in range(1, blocks, 2))]
        return cls(
            unet=_way_down(shapes),
            hint_channels=width(shapes, "controlnet_cond_embedding.conv_in.weight", 1),
            hint_widths=tuple(width(shapes, f"controlnet_cond_embedding.{name}.weight") for name in hints),
        )

    def renames(self) -> Iterator[Rename]:
        for rename in super().renames():
            yield renamed(rename.target, rename.target, rename.shape)


def _way_down(shapes: Shapes) -> XlUNet:
    levels = [f"down_blocks.{level}" for level in range(count(shapes, "down_blocks."))]
    middle = "mid_block.attentions.0"
    vector = f"{XlUNet.VECTOR}.linear_1.weight"
    return XlUNet(
        in_channels=width(shapes, "conv_in.weight", 1),
        out_channels=0,
        widths=tuple(width(shapes, f"{level}.resnets.0.conv1.weight") for level in levels),
        attention=tuple(count(shapes, f"{level}.attentions.0.transformer_blocks.") for level in levels),
        depth=count(shapes, "down_blocks.0.resnets."),
        context=width(shapes, f"{middle}.transformer_blocks.0.attn2.to_k.weight", 1),
        middle=count(shapes, f"{middle}.transformer_blocks."),
        linear=len(shapes.get(f"{middle}.proj_in.weight", ())) == 2,
        vector=width(shapes, vector, 1) if vector in shapes else 0,
    )
