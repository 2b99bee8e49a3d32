"""Main models with a UNet: Stable Diffusion 1 and 2, SDXL and its refiner, in the layout of the original files.

A UNet is told by the width of the text conditioning that it takes; what it takes beside latents tells its variant. The
rules are shared with `main_relatives`, where what only looks like these is named.
"""

from __future__ import annotations

from invokeai_daemon.models.identify.main_parts import (
    CLIP_G,
    CLIP_H,
    CLIP_L,
    GOES_BEFORE,
    SD_VAE,
    SDXL_VAE,
    WRAPPERS,
    needs,
)
from invokeai_daemon.models.identify.rules import Likely, named, said
from invokeai_daemon.models.identify.table import (
    Answer,
    Choice,
    Family,
    Rule,
    axis,
    both,
    either,
    has,
    lacks,
    metadata,
    quietly,
    rank,
    whole,
)
from invokeai_daemon.models.identify.weights import Weights, shorten

# The layout of the original files

_UNET = has("input_blocks.*", called="a UNet in the layout of the original Stable Diffusion")
_NO_CONTROL = lacks("input_hint_block.*", "zero_convs.*", called="the control branch of a ControlNet")
MARKS = (_UNET, _NO_CONTROL)

_TO_K = ("input_blocks.*.attn2.to_k.weight", "middle_block.*.attn2.to_k.weight")
_FIRST = "input_blocks.0.0.weight"
_NO_SIZES = lacks("label_emb.*", called="an input for a vector of sizes")
_NO_CONDITIONER = whole(lacks("conditioner.embedders.*", called="the text encoders of SDXL"))
_NO_OPEN_CLIP = whole(lacks("cond_stage_model.model.*", called="an OpenCLIP text encoder"))
NO_TIME = lacks("input_blocks.*.time_stack.*", "input_blocks.*.temporal_*", called="layers that look along time")
_NO_EDM = whole(lacks("edm_mean", "edm_std", called="the EDM scaling of Playground 2.5"))
_NO_VIEW = whole(lacks("cc_projection.*", called="the view projection of Zero123"))
_NO_BOXES = lacks("input_blocks.*.fuser.*", "position_net.*", called="the box layers of GLIGEN")
PICTURES = ("cond_stage_model.transformer.vision_model.*", "cond_stage_model.mapper.*")
_OTHER_TEXTS = ("cond_stage_model.roberta.*", "cond_stage_model.transformer.token_emb.*")
_NO_OTHERS = whole(lacks(*PICTURES, *_OTHER_TEXTS, called="another encoder than CLIP's for texts"))


def context(*widths: int) -> Rule:
    written = axis(_TO_K, 1, *widths, called="context width")

    def rule(weights: Weights) -> Answer:
        answer, width = written(weights), _width_by_structure(weights)
        return answer if width is None else Answer(width in widths, f"its blocks are those of context width {width}")

    return rule


def _width_by_structure(weights: Weights) -> int | None:
    """The width that belongs to such blocks, where the matrices that have it are packed; None where they are not."""
    found = weights.find(*_TO_K)
    if found is None or not found.packed:
        return None
    time = weights.shape("time_embed.0.bias")
    if weights.find("label_emb.*"):
        return 1280 if time == (1536,) else 2048
    projection = weights.find("input_blocks.*.proj_in.weight")
    return 768 if projection and len(projection.shape) == 4 else 1024


def channels(*numbers: int) -> Rule:
    return axis((_FIRST, "conv_in.weight"), 1, *numbers, called="input channels")


def variants(**numbers: int) -> Choice:
    return Choice(tuple((variant, quietly(channels(number))) for variant, number in numbers.items()))


_TOKENS = (
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    "cond_stage_model.transformer.embeddings.token_embedding.weight",
)


def _own_width(weights: Weights) -> Answer:
    """SD-1's UNet is as wide as its own CLIP encoder: 768 for the published models, but any pair that agrees is one."""
    keys = weights.find(*_TO_K)
    if keys is not None and keys.packed:
        return context(768)(weights)
    if keys is None or len(keys.shape) < 2:
        return Answer(False, "its context width was not found")
    width, seen = keys.shape[1], f"{shorten(keys.name)} has context width {keys.shape[1]}"
    text = weights.whole.find(*_TOKENS)
    if text is not None and len(text.shape) == 2:
        return Answer(text.shape[1] == width, f"{seen}, and {shorten(text.name)} has width {text.shape[1]}")
    if width == 768:
        return Answer(True, f"{seen} (and it has no text encoder)")
    return Answer(False, f"{seen}, not 768 (and it has no text encoder)")


# What the UNet predicts

_V_MARKER = whole(has("v_pred", called="the marker v_pred, which says v_prediction"))
_SAYS_V = either(_V_MARKER, metadata("modelspec.prediction_type", "v", "v_prediction", "vpred"))
_SAYS_EPSILON = both(
    metadata("modelspec.prediction_type", "epsilon", "eps"),
    whole(lacks("v_pred", called="the marker v_pred")),
)
#: A file that takes a mask or a depth map was trained from the 512-pixel base, which predicts noise.
_TAKES_MORE = channels(9, 5)


def _step(*steps: int) -> Rule:
    """The training step that stands beside the tensors tells apart the published SD-2 models."""

    def rule(weights: Weights) -> Answer:
        step = weights.scalars.get("global_step")
        return Answer(step in steps, f"its global_step is {step}" if step else "it has no global_step")

    return rule


def prediction(default: str) -> Choice:
    hints = (("v_prediction", named(r"v[-_. ]?pred")),)
    return Likely((("v_prediction", _SAYS_V), ("epsilon", _SAYS_EPSILON)), default, hints)


#: What the name of a file suggests is taken before the documented default, and as little a fact as that.
_SD_2_PREDICTION = Likely(
    (
        ("v_prediction", _SAYS_V),
        ("v_prediction", _step(110_000)),
        ("v_prediction", said("v2-768", "768-v")),
        ("epsilon", _SAYS_EPSILON),
        ("epsilon", _step(220_000, 875_000)),
        ("epsilon", said("v2-512")),
        ("epsilon", _TAKES_MORE),
    ),
    "v_prediction",
    (
        ("v_prediction", named("768", r"v[-_. ]?pred", r"[-_. ]v[-_. ]ema")),
        ("epsilon", named("512", r"(^|[-_. ])base($|[-_. ])", "turbo")),
    ),
)


def _distilled(weights: Weights) -> str:
    """A UNet distilled to few steps may take the guidance as an input."""
    found = weights.find("time_embed.cond_proj.*", "time_embedding.cond_proj.*")
    return (
        f"its UNet takes the guidance as an input ({shorten(found.name)}), which is not supported yet" if found else ""
    )


def _cosxl(weights: Weights) -> str:
    found = weights.whole.find("edm_vpred.*")
    why = "it predicts v on the noise scale of CosXL (edm_vpred.sigma_max), which no scheduler here follows"
    return why if found else _distilled(weights)


SD_1 = Family(
    "main",
    "sd-1",
    "a Stable Diffusion 1 checkpoint",
    marks=MARKS,
    rules=(
        quietly(_NO_CONDITIONER),
        _NO_OPEN_CLIP,
        _NO_SIZES,
        NO_TIME,
        _NO_VIEW,
        _NO_BOXES,
        _NO_OTHERS,
        rank("input_blocks.*.proj_in.weight", 4, called="a convolution"),
        _own_width,
        channels(4, 9, 8),
    ),
    under=WRAPPERS,
    variant=variants(normal=4, inpaint=9, edit=8),
    prediction_type=prediction("epsilon"),
    needs=needs(CLIP_L, SD_VAE),
    before=GOES_BEFORE,
    unusable=_distilled,
)
SD_2 = Family(
    "main",
    "sd-2",
    "a Stable Diffusion 2 checkpoint",
    marks=MARKS,
    rules=(quietly(_NO_CONDITIONER), _NO_SIZES, NO_TIME, context(1024), channels(4, 9, 5)),
    under=WRAPPERS,
    variant=variants(normal=4, inpaint=9, depth=5),
    prediction_type=_SD_2_PREDICTION,
    needs=needs(CLIP_H, SD_VAE),
    before=GOES_BEFORE,
)
SDXL = Family(
    "main",
    "sdxl",
    "an SDXL checkpoint",
    marks=MARKS,
    rules=(context(2048), channels(4, 9, 8), _NO_EDM),
    under=WRAPPERS,
    variant=variants(normal=4, inpaint=9, edit=8),
    prediction_type=prediction("epsilon"),
    needs=needs(CLIP_L, CLIP_G, SDXL_VAE),
    before=GOES_BEFORE,
    unusable=_cosxl,
)
SDXL_REFINER = Family(
    "main",
    "sdxl-refiner",
    "an SDXL refiner checkpoint",
    marks=MARKS,
    rules=(context(1280), has("label_emb.*", called="an input for a vector of sizes"), channels(4)),
    under=WRAPPERS,
    variant=variants(normal=4),
    prediction_type=prediction("epsilon"),
    needs=needs(CLIP_G, SDXL_VAE),
    before=GOES_BEFORE,
)

FAMILIES: tuple[Family, ...] = (SD_1, SD_2, SDXL, SDXL_REFINER)
