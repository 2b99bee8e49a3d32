"""Main models with a transformer that can be converted: Stable Diffusion 3 and 3.5, and FLUX.1.

Both are told by names that no other transformer has, in the original layout and in that of diffusers; widths are read
from biases and norms where they can be, because the matrices of quantised files are packed.
"""

from __future__ import annotations

from dataclasses import replace

from invokeai_daemon.models.identify.main_parts import (
    CLIP_G,
    CLIP_L,
    DIFFUSERS_WRAPPERS,
    FLOW,
    FLUX_VAE,
    GOES_BEFORE,
    NO_CONTROL,
    SD_3_VAE,
    T5_XXL,
    WRAPPERS,
    needs,
)
from invokeai_daemon.models.identify.rules import note
from invokeai_daemon.models.identify.table import Choice, Family, Rule, axis, both, either, has, lacks, unless
from invokeai_daemon.models.identify.weights import Weights

# Stable Diffusion 3


def _hidden(*sizes: int) -> Rule:
    return axis(("x_embedder.proj.bias", "pos_embed.proj.bias"), 0, *sizes, called="hidden size")


_WHICH_3 = either(
    has(
        "joint_blocks.0.x_block.attn.ln_q.weight",
        "transformer_blocks.0.attn.norm_q.weight",
        called="normalised queries, as SD 3.5 has",
    ),
    note("its queries are not normalised, as in SD 3.0"),
)
SD_3 = Family(
    "main",
    "sd-3",
    "a Stable Diffusion 3 checkpoint",
    marks=(
        has("joint_blocks.0.context_block.*", called="the joint blocks of SD 3"),
        has("x_embedder.proj.weight", "x_embedder.proj.bias", called="an embedding of latent patches"),
        NO_CONTROL,
    ),
    rules=(_WHICH_3,),
    under=WRAPPERS,
    variant=Choice((("medium", _hidden(1536)), ("large", _hidden(2432)))),
    prediction_type=FLOW,
    # It renders without T5-XXL, whose place is then filled with zeros.
    needs=needs(CLIP_L, CLIP_G, SD_3_VAE),
    before=GOES_BEFORE,
)
SD_3_DIFFUSERS = replace(
    SD_3,
    name="a Stable Diffusion 3 transformer in the layout of diffusers",
    marks=(
        has("transformer_blocks.0.norm1_context.linear.*", called="the joint blocks of SD 3"),
        has("pos_embed.proj.weight", "pos_embed.proj.bias", called="an embedding of latent patches"),
        has("time_text_embed.text_embedder.linear_1.*", called="an embedding of the pooled text"),
        lacks("single_transformer_blocks.*", called="single blocks"),
        NO_CONTROL,
    ),
    under=DIFFUSERS_WRAPPERS,
)

# FLUX.1


_GUIDED = has(
    "guidance_in.in_layer.*",
    "time_text_embed.guidance_embedder.linear_1.*",
    called="a guidance embedder, as FLUX.1 dev, Krea and Kontext have, which nothing in a file tells apart",
)


def _latents(*sizes: int) -> Rule:
    return axis(("img_in.weight", "x_embedder.weight"), 1, *sizes, called="input channels")


_VARIANT = Choice(
    (
        ("dev_fill", both(_GUIDED, _latents(384))),
        ("dev", both(_GUIDED, unless(_latents(384)))),
        ("schnell", both(unless(_GUIDED), note("it has no guidance embedder, as FLUX.1 schnell"))),
    )
)


def _takes_control(weights: Weights) -> str:
    """FLUX.1 Depth and Canny take the latents of a control picture beside their own."""
    if not _latents(128)(weights).holds:
        return ""
    return "it is FLUX.1 Depth or Canny, which takes a control picture beside the latents; that is not supported yet"


FLUX = Family(
    "main",
    "flux",
    "a FLUX.1 checkpoint",
    marks=(
        has("double_blocks.0.img_attn.qkv.*weight", called="the double blocks of FLUX"),
        has("vector_in.in_layer.*", called="an embedding of the pooled text"),
        has("txt_in.weight", "txt_in.bias", called="an embedding of the text"),
        NO_CONTROL,
    ),
    rules=(
        lacks("distilled_guidance_layer.*", called="the guidance layer of Chroma"),
        lacks("double_stream_modulation_img.*", called="the shared modulation of FLUX.2"),
    ),
    under=WRAPPERS,
    variant=_VARIANT,
    prediction_type=FLOW,
    needs=needs(CLIP_L, T5_XXL, FLUX_VAE),
    before=GOES_BEFORE,
    unusable=_takes_control,
)
FLUX_DIFFUSERS = replace(
    FLUX,
    name="a FLUX.1 transformer in the layout of diffusers",
    marks=(
        has("single_transformer_blocks.0.*", called="the single blocks of FLUX"),
        has("time_text_embed.text_embedder.linear_1.*", called="an embedding of the pooled text"),
        has("x_embedder.weight", "x_embedder.bias", called="an embedding of latents"),
        NO_CONTROL,
    ),
    rules=(lacks("distilled_guidance_layer.*", called="the guidance layer of Chroma"),),
    under=DIFFUSERS_WRAPPERS,
)

FAMILIES: tuple[Family, ...] = (SD_3, SD_3_DIFFUSERS, FLUX, FLUX_DIFFUSERS)
