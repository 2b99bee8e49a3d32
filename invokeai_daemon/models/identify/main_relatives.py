"""Relatives of the main models with a UNet: files that look like Stable Diffusion and are not, and UNets alone.

Both are named so that they are not taken for ordinary models; none can be used yet. The UNet of a diffusers folder,
dropped without the folder, is told by the names that diffusers gives it.
"""

from __future__ import annotations

from dataclasses import replace

from invokeai_daemon.models.identify.main_parts import GOES_BEFORE, WRAPPERS
from invokeai_daemon.models.identify.main_unet import (
    MARKS,
    NO_TIME,
    PICTURES,
    SD_1,
    SD_2,
    SDXL,
    SDXL_REFINER,
    channels,
    context,
    prediction,
    variants,
)
from invokeai_daemon.models.identify.table import NONE, Choice, Family, Rule, axis, has, lacks, rank, whole

# Files that look like Stable Diffusion

_RELATIVE = "only ordinary Stable Diffusion models can be rendered; it is kept under its name"
PLAYGROUND = replace(
    SDXL,
    name="a Playground 2.5 checkpoint",
    rules=(context(2048), whole(has("edm_mean", "edm_std", called="the EDM scaling of Playground 2.5"))),
    unusable="it was trained with the noise scale of EDM (edm_mean), which is not supported; " + _RELATIVE,
)
_PICTURE = has("label_emb.0.0.weight", called="an input for a picture's embedding")
UNCLIP = Family(
    "main",
    "sd-2",
    "a Stable Diffusion 2 unCLIP checkpoint",
    marks=MARKS,
    rules=(
        context(1024),
        NO_TIME,
        has("label_emb.0.0.weight", called="an input for a picture's embedding"),
        channels(4),
    ),
    under=WRAPPERS,
    variant=variants(normal=4),
    prediction_type=prediction("v_prediction"),
    unusable="it makes variations of a picture given as its CLIP embedding; " + _RELATIVE,
    before=GOES_BEFORE,
)
X4_UPSCALER = Family(
    "main",
    "sd-2",
    "a Stable Diffusion x4 upscaler",
    marks=MARKS,
    rules=(context(1024), channels(7), has("label_emb.*", called="an input for a noise level")),
    under=WRAPPERS,
    unusable="it enlarges a picture step by step; " + _RELATIVE,
    before=GOES_BEFORE,
)
SVD = Family(
    "main",
    "svd",
    "a Stable Video Diffusion checkpoint",
    marks=MARKS,
    rules=(context(1024), has("input_blocks.*.time_stack.*", called="layers that look along time")),
    under=WRAPPERS,
    unusable="it makes videos; " + _RELATIVE,
    before=GOES_BEFORE,
)
PAINT_BY_EXAMPLE = Family(
    "main",
    "sd-1",
    "a Paint-by-Example checkpoint",
    marks=MARKS,
    rules=(context(768), channels(9), whole(has(*PICTURES, called="an encoder of pictures in place of texts"))),
    under=WRAPPERS,
    variant=variants(inpaint=9),
    unusable="it fills a mask with what an example shows; " + _RELATIVE,
    before=GOES_BEFORE,
)
ZERO123 = Family(
    "main",
    "sd-1",
    "a Zero123 checkpoint",
    marks=MARKS,
    rules=(context(768), whole(has("cc_projection.*", called="the view projection of Zero123"))),
    under=WRAPPERS,
    unusable="it turns the camera around an object; " + _RELATIVE,
    before=GOES_BEFORE,
)

# A UNet of a diffusers folder, alone in a file

_LONE_MARKS = (
    has("down_blocks.*.resnets.*", called="a UNet in the layout of diffusers"),
    has("up_blocks.*.resnets.*", called="the upper half of a UNet"),
    has("conv_in.weight", called="a first convolution"),
    has("time_embedding.linear_1.weight", called="an input for the time step"),
    lacks("controlnet_*", called="the control branch of a ControlNet"),
    lacks(
        "down_blocks.*.motion_modules.*",
        "down_blocks.*.temporal_*",
        "down_blocks.*.temp_*",
        called="layers that look along time",
    ),
)
_LONE_TO_K = ("down_blocks.*.attn2.to_k.weight", "mid_block.*.attn2.to_k.weight")


def _lone_context(*widths: int) -> Rule:
    return axis(_LONE_TO_K, 1, *widths, called="context width")


_LONE = (
    "it is the UNet of a diffusers model without its other parts. Drop the whole folder that it comes from, or the "
    "model as one file"
)
_NO_PROJECTION = lacks("encoder_hid_proj.*", called="a projection of other text encoders")
_PROJECTION = has("encoder_hid_proj.*", called="a projection of other text encoders")


def _lone(family: Family, *rules: Rule) -> Family:
    """The UNet of this family by itself."""
    return replace(
        family,
        name=f"the UNet of {family.name.removesuffix(' checkpoint')}",
        marks=_LONE_MARKS,
        rules=rules,
        under=("unet.", ""),
        unusable=_LONE,
    )


_CONVOLUTION = rank("down_blocks.*.proj_in.weight", 4, called="a convolution")
_SIZES = has("add_embedding.linear_1.weight", called="an input for a vector of sizes")
_NO_SIZES_HERE = lacks("add_embedding.*", called="an input for a vector of sizes")

SVD_UNET = replace(
    SVD,
    name="the UNet of Stable Video Diffusion",
    marks=(
        has("down_blocks.*.temporal_res_block.*", called="layers that look along time"),
        has("up_blocks.*.temporal_res_block.*", called="the upper half of a UNet"),
        has("conv_in.weight", called="a first convolution"),
    ),
    rules=(_lone_context(1024),),
    under=("unet.", ""),
)
DEEPFLOYD = replace(
    _lone(SD_1, axis("conv_in.weight", 1, 3, 6, called="input channels"), _PROJECTION),
    base="deepfloyd-if",
    name="a UNet of DeepFloyd IF",
    unusable="DeepFloyd IF is not supported; it is kept under its name",
    variant=NONE,
)
KOLORS = replace(
    _lone(SDXL, _lone_context(2048), _SIZES, axis("encoder_hid_proj.weight", 1, 4096, called="text width")),
    base="kolors",
    name="the UNet of Kolors",
    unusable="Kolors is not supported yet; it is kept under its name",
    prediction_type=Choice((), "epsilon"),
)

FAMILIES: tuple[Family, ...] = (
    PLAYGROUND,
    UNCLIP,
    X4_UPSCALER,
    SVD,
    ZERO123,
    PAINT_BY_EXAMPLE,
    DEEPFLOYD,
    _lone(SD_1, _lone_context(768), _CONVOLUTION, _NO_SIZES_HERE, _NO_PROJECTION, channels(4, 9, 8)),
    _lone(SD_2, _lone_context(1024), _NO_SIZES_HERE, _NO_PROJECTION, channels(4, 9, 5)),
    _lone(SDXL, _lone_context(2048), _SIZES, _NO_PROJECTION, channels(4, 9, 8)),
    _lone(SDXL_REFINER, _lone_context(1280), _SIZES, _NO_PROJECTION, channels(4)),
    SVD_UNET,
    KOLORS,
)
