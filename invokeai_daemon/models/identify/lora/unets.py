"""UNets: the layers of Stable Diffusion 1, 2, XL and the refiner, under their original names and those of diffusers.

The two trees are the same blocks in the same order: numbered through (`input_blocks.4.1`) in the original, by level
(`down_blocks.1.attentions.0`) in diffusers. Kohya's trainers use diffusers' names for SD-1 and SD-2, the original ones
for SDXL; others do otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from invokeai_daemon.models.identify.lora.modules import Architecture


@dataclass(frozen=True)
class UNet:
    """The sizes of a UNet, from its finest level to its coarsest."""

    widths: tuple[int, ...]
    #: Transformer blocks in each attention of a level; 0 for a level without attention.
    depths: tuple[int, ...]
    #: Those of the middle.
    middle: int
    #: Width of the text conditioning.
    context: int
    #: Attention blocks project with a linear layer, or with a convolution (SD-1).
    linear: bool
    #: Width of the size vector that SDXL takes; 0 for none.
    vector: int = 0

    def table(self) -> str:
        """Its layers, a line each, in the form that `modules` reads."""
        return "\n".join(f"{name} {size}" for name, size in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        finest, time = self.widths[0], 4 * self.widths[0]
        yield "(time_embed.0|time_embedding.linear_1)", f"{time}x{finest}"
        yield "(time_embed.2|time_embedding.linear_2)", f"{time}x{time}"
        if self.vector:
            yield "(label_emb.0.0|add_embedding.linear_1)", f"{time}x{self.vector}"
            yield "(label_emb.0.2|add_embedding.linear_2)", f"{time}x{time}"
        yield "(input_blocks.0.0|conv_in)", " ".join(f"{finest}x{channels}x3x3" for channels in (4, 5, 8, 9))
        yield from self._down()
        coarsest = self.widths[-1]
        yield from self._residual("middle_block.0", "mid_block.resnets.0", coarsest, coarsest)
        yield from self._attention("middle_block.1", "mid_block.attentions.0", coarsest, self.middle)
        yield from self._residual("middle_block.2", "mid_block.resnets.1", coarsest, coarsest)
        yield from self._up()
        yield "(out.0|conv_norm_out)", f"{finest}"
        yield "(out.2|conv_out)", f"4x{finest}x3x3"

    def _down(self) -> Iterator[tuple[str, str]]:
        block, inputs = 1, self.widths[0]
        for level, (outputs, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            for place in range(2):
                target = f"down_blocks.{level}"
                yield from self._residual(f"input_blocks.{block}.0", f"{target}.resnets.{place}", inputs, outputs)
                yield from self._attention(f"input_blocks.{block}.1", f"{target}.attentions.{place}", outputs, depth)
                block, inputs = block + 1, outputs
            if level < len(self.widths) - 1:
                names = f"(input_blocks.{block}.0.op|{target}.downsamplers.0.conv)"
                yield names, f"{outputs}x{outputs}x3x3"
                block += 1

    def _up(self) -> Iterator[tuple[str, str]]:
        block, inputs = 0, self.widths[-1]
        skips = [self.widths[0]]
        for level, width in enumerate(self.widths):
            skips += [width] * (3 if level < len(self.widths) - 1 else 2)
        for level, (outputs, depth) in enumerate(zip(self.widths[::-1], self.depths[::-1], strict=True)):
            target = f"up_blocks.{level}"
            for place in range(3):
                source = f"output_blocks.{block}"
                width = inputs + skips.pop()
                yield from self._residual(f"{source}.0", f"{target}.resnets.{place}", width, outputs)
                yield from self._attention(f"{source}.1", f"{target}.attentions.{place}", outputs, depth)
                block, inputs = block + 1, outputs
            if level < len(self.widths) - 1:
                # The upsampler closes the level's last block, behind its attention if there is one.
                names = f"(output_blocks.{block - 1}.{2 if depth else 1}.conv|{target}.upsamplers.0.conv)"
                yield names, f"{outputs}x{outputs}x3x3"

    def _residual(self, source: str, target: str, inputs: int, outputs: int) -> Iterator[tuple[str, str]]:
        yield f"({source}.in_layers.0|{target}.norm1)", f"{inputs}"
        yield f"({source}.in_layers.2|{target}.conv1)", f"{outputs}x{inputs}x3x3"
        yield f"({source}.emb_layers.1|{target}.time_emb_proj)", f"{outputs}x{4 * self.widths[0]}"
        yield f"({source}.out_layers.0|{target}.norm2)", f"{outputs}"
        yield f"({source}.out_layers.3|{target}.conv2)", f"{outputs}x{outputs}x3x3"
        if inputs != outputs:
            yield f"({source}.skip_connection|{target}.conv_shortcut)", f"{outputs}x{inputs}x1x1"

    def _attention(self, source: str, target: str, width: int, depth: int) -> Iterator[tuple[str, str]]:
        if not depth:
            return
        either, square = f"({source}|{target})", f"{width}x{width}"
        yield f"{either}.norm", f"{width}"
        yield f"{either}.(proj_in|proj_out)", square if self.linear else f"{square}x1x1"
        block = f"{either}.transformer_blocks.[{depth}]"
        yield f"{block}.(norm1|norm2|norm3)", f"{width}"
        yield f"{block}.attn1.(to_q|to_k|to_v|to_out.0|to_out)", square
        yield f"{block}.attn2.(to_q|to_out.0|to_out)", square
        yield f"{block}.attn2.(to_k|to_v)", f"{width}x{self.context}"
        # A gated feed-forward: twice the inner width goes in, one half gates the other.
        yield f"{block}.ff.net.0.proj", f"{8 * width}x{width}"
        yield f"{block}.ff.net.2", f"{width}x{4 * width}"


SD = (320, 640, 1280, 1280)
SD_1 = UNet(SD, (1, 1, 1, 0), 1, 768, linear=False)
SD_2 = UNet(SD, (1, 1, 1, 0), 1, 1024, linear=True)
SDXL = UNet((320, 640, 1280), (0, 2, 10), 10, 2048, linear=True, vector=2816)
REFINER = UNet((384, 768, 1536, 1536), (0, 4, 4, 0), 4, 1280, linear=True, vector=2560)

ARCHITECTURES = (
    Architecture("sd-1", SD_1.table(), name="Stable Diffusion 1"),
    Architecture("sd-2", SD_2.table(), name="Stable Diffusion 2"),
    Architecture("sdxl", SDXL.table(), name="SDXL"),
    Architecture("sdxl-refiner", REFINER.table(), name="the SDXL refiner"),
)
