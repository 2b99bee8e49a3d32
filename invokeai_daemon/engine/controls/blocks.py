"""Blocks: in which attentions of a UNet each method of an IP-Adapter lets its picture count. A table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: In SD-1, the second block of the way up has the style, the coarsest of the way down and the middle the composition.
_SD_1 = {
    "style": ("up_blocks.1.",),
    "composition": ("down_blocks.2.", "mid_block."),
    "style_precise": ("up_blocks.1.", "down_blocks.2.", "mid_block."),
    "style_strong": ("up_blocks.0.", "up_blocks.1.", "up_blocks.2.", "down_blocks.0.", "down_blocks.1."),
}
_COMPOSITION_XL = "down_blocks.2.attentions.1."
#: In SDXL one attention each has them. Strong style is all but the composition and the middle.
_SDXL = {
    "style": ("up_blocks.0.attentions.1.",),
    "composition": (_COMPOSITION_XL,),
    "style_precise": ("up_blocks.0.attentions.1.", _COMPOSITION_XL),
    "style_strong": (
        "up_blocks.0.",
        "up_blocks.1.",
        "up_blocks.2.",
        "down_blocks.0.",
        "down_blocks.1.",
        "down_blocks.2.attentions.0.",
        "down_blocks.2.attentions.2.",
    ),
}
#: By base and method: what the names of the attentions begin with. "full" counts everywhere.
BLOCKS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType({"sd-1": _SD_1, "sd-2": _SD_1, "sdxl": _SDXL})


def counts_in(base: str, method: str, attention: str) -> bool:
    """Whether a method lets the picture count in an attention of the UNet, by that one's name."""
    return method == "full" or attention.startswith(BLOCKS[base][method])
