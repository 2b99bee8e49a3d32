"""VAE: encoders and decoders between pictures and latents, told by the number of latent channels and their layers.

SD-1, SD-2 and SDXL share one architecture, as FLUX and SD-3 do, and Wan and Qwen-Image: their weights differ and their
shapes do not. There metadata decide, or else the file name, which is a hint and marked as assumed.
"""

from __future__ import annotations

from invokeai_daemon.models.identify import unusual_vaes
from invokeai_daemon.models.identify.rules import Likely, most_of_it, named, note, said, size
from invokeai_daemon.models.identify.table import (
    Answer,
    Choice,
    Family,
    Rule,
    always,
    axis,
    both,
    either,
    has,
    lacks,
    quietly,
    rank,
)
from invokeai_daemon.models.identify.weights import Weights

UNDER = ("first_stage_model.", "vae.", "autoencoder.", "")

_IN = "decoder.conv_in.weight"
_IN_3D = "decoder.conv_in.conv.weight"
_DECODER = has(_IN, called="the decoder of a VAE")
_STEPS = has(
    "decoder.up.0.block.0.conv1.weight",
    "decoder.up_blocks.0.resnets.0.conv1.weight",
    called="the upsampling steps of a VAE",
)
_SPATIAL = rank(_IN, 4, called="a convolution over pictures")
_LAYOUT = Choice(
    (
        ("diffusers", quietly(has("decoder.mid_block.*", "encoder.mid_block.*", called="diffusers' names"))),
        ("ldm", quietly(has("decoder.mid.*", "encoder.mid.*", called="the names of the original layout"))),
    )
)
_PLAIN = lacks(
    "decoder.time_conv_out.*",
    "decoder.up.0.block.0.time_stack.*",
    "decoder.mid.block_1.mix_factor",
    "decoder.temp_conv_in.*",
    "decoder.condition_encoder.*",
    "quantize.embedding.weight",
    "decoder_unet.*",
    called="layers that a plain VAE has not",
)

HALF = "only one half of a VAE is in the file. Drop the file that has encoder and decoder"


def _whole_or_half(weights: Weights) -> str:
    both_halves = weights.find("encoder.conv_in.*", "encoder.conv1.*", "encoder.layers.*", "encoder.0.*")
    return "" if both_halves else HALF


def _latents(*numbers: int) -> Rule:
    return axis(_IN, 1, *numbers, called="latent channels")


def _steps_wide(*numbers: int) -> Rule:
    return axis(_IN, 0, *numbers, called="decoder width")


STABLE_DIFFUSION = Likely(
    (
        ("sdxl", said(r"stable-diffusion-xl", r"\bsdxl")),
        ("sd-2", said(r"stable-diffusion-v2", r"\bsd_?v2")),
        ("sd-1", said(r"stable-diffusion-v1", r"\bsd_?v1")),
    ),
    default="sd-1",
    hints=(
        ("sdxl", named("xl", "pony", "illustrious", "noob")),
        ("sd-2", named(r"sd[-_ ]?v?2", r"(^|[^a-z0-9])v2[-_.]?[01]?([^a-z0-9]|$)", "stable-diffusion-2")),
    ),
)
SIXTEEN = Likely(
    (
        ("flux", said("flux")),
        ("sd-3", said("stable-diffusion-3", "stable-diffusion-v3", r"\bsd_?3")),
    ),
    default="flux",
    hints=(("sd-3", named(r"sd[-_ ]?v?3", "stable-diffusion-3")), ("flux", named("flux", "^ae$"))),
)
WAN_OR_QWEN = Likely(
    (("wan", said(r"\bwan")), ("qwen-image", said("qwen"))),
    default="qwen-image",
    hints=(("wan", named("wan")), ("qwen-image", named("qwen")), ("anima", named("anima"))),
)


_KL: tuple[Family, ...] = (
    Family(
        "vae",
        STABLE_DIFFUSION,
        "a VAE of Stable Diffusion",
        marks=(_DECODER,),
        rules=(
            most_of_it,
            _latents(4),
            _SPATIAL,
            _STEPS,
            _PLAIN,
            note("the VAEs of SD-1, SD-2 and SDXL have the same shapes; a sidecar with base = … says which it is"),
        ),
        under=UNDER,
        dialect=_LAYOUT,
        unusable=_whole_or_half,
    ),
    Family(
        "vae",
        SIXTEEN,
        "a VAE of FLUX or SD-3",
        marks=(_DECODER, most_of_it),
        rules=(
            _latents(16),
            _SPATIAL,
            _STEPS,
            _PLAIN,
            quietly(lacks("decoder.up_blocks.0.resnets.0.norm1.conv_y.*", called="the norms of a video VAE")),
            lambda weights: Answer(size(weights, _IN, 0) != 1024, "decoder.conv_in.weight has width 1024"),
            note("the VAEs of FLUX and SD-3 have the same shapes; a sidecar with base = … says which it is"),
        ),
        under=UNDER,
        dialect=_LAYOUT,
        unusable=_whole_or_half,
    ),
    Family(
        "vae",
        "cogview4",
        "a VAE of CogView4",
        marks=(_DECODER, most_of_it),
        rules=(
            _latents(16),
            _SPATIAL,
            _steps_wide(1024),
            has("decoder.up_blocks.0.resnets.0.conv1.weight", called="the upsampling steps of a VAE"),
            _PLAIN,
        ),
        under=UNDER,
        dialect=_LAYOUT,
        unusable=_whole_or_half,
    ),
    Family(
        "vae",
        "kandinsky",
        "a VAE of Kandinsky 5",
        marks=(
            has("decoder.conv_in.weight", called="the decoder of a VAE"),
            has("decoder.up.0.block.0.conv1.weight", called="the upsampling steps of a VAE"),
            most_of_it,
        ),
        rules=(_latents(16), _SPATIAL, _steps_wide(1024)),
        under=UNDER,
        dialect=_LAYOUT,
        unusable=_whole_or_half,
    ),
    Family(
        "vae",
        "flux2",
        "a VAE of FLUX.2",
        marks=(_DECODER, most_of_it),
        rules=(
            either(
                has("bn.running_mean", called="the statistics of FLUX.2's latents"),
                both(_latents(32), _SPATIAL, _STEPS),
            ),
        ),
        under=UNDER,
        dialect=_LAYOUT,
        unusable=_whole_or_half,
    ),
    Family(
        "vae",
        Choice(
            (
                ("qwen-image", has("decoder.mid_block.attentions.0.norm.gamma", called="the norms of Qwen-Image")),
                ("hunyuan-image", lacks("decoder.mid_block.attentions.0.norm.gamma", called="other norms")),
            )
        ),
        "a VAE with 64 latent channels",
        marks=(_DECODER, most_of_it),
        rules=(_latents(64), _SPATIAL),
        under=UNDER,
        dialect=_LAYOUT,
    ),
    Family(
        "vae",
        "sana",
        "a deep-compression autoencoder of Sana",
        marks=(
            has(
                "decoder.up_blocks.0.0.attn.to_q.weight",
                "decoder.up_blocks.*.attn.to_qkv_multiscale.*",
                "encoder.down_blocks.0.0.conv1.weight",
                "decoder.stages.*",
                "encoder.project_in.*",
                called="the stages of a deep-compression autoencoder",
            ),
            most_of_it,
        ),
        under=UNDER,
    ),
)

_GAMMA = "decoder.mid_block.attentions.0.norm.gamma"
_NATIVE = "decoder.middle.0.residual.0.gamma"
_WAN: tuple[Family, ...] = (
    Family(
        "vae",
        WAN_OR_QWEN,
        "a VAE of Wan or Qwen-Image",
        marks=(
            has(_GAMMA, _NATIVE, called="the norms of Wan's VAE"),
            most_of_it,
        ),
        rules=(
            axis((_IN, "decoder.conv1.weight"), 1, 16, called="latent channels"),
            either(
                rank(_IN, 5, called="a convolution over time"),
                rank("decoder.conv1.weight", 5, called="a convolution over time"),
            ),
            note("the VAEs of Wan 2.1 and Qwen-Image have the same shapes; a sidecar with base = … says which it is"),
        ),
        under=UNDER,
    ),
    Family(
        "vae",
        "wan",
        "a VAE of Wan 2.2",
        marks=(has(_GAMMA, _NATIVE, called="the norms of Wan's VAE"), most_of_it),
        rules=(axis((_IN, "decoder.conv1.weight"), 1, 48, called="latent channels"),),
        under=UNDER,
    ),
)


def _tiny_base(pattern: str, place: int) -> Likely:
    """Four latent channels: SD or SDXL; sixteen: FLUX or SD-3."""

    def channels(number: int) -> Rule:
        return axis(pattern, place, number, called="latent channels")

    return Likely(
        (("flux2", channels(32)),),
        hints=(
            *((word, both(channels(4), rule)) for word, rule in STABLE_DIFFUSION.hints),
            *((word, both(channels(16), rule)) for word, rule in SIXTEEN.hints),
            ("sd-1", channels(4)),
            ("flux", channels(16)),
        ),
    )


_TINY: tuple[Family, ...] = (
    Family(
        "vae",
        _tiny_base("decoder.layers.0.weight", 1),
        "a tiny autoencoder",
        marks=(
            has("decoder.layers.0.weight", called="the layers of a tiny autoencoder"),
            has("encoder.layers.0.weight", called="the layers of a tiny autoencoder"),
            rank("decoder.layers.0.weight", 4, called="a convolution over pictures"),
            most_of_it,
        ),
        rules=(note("tiny autoencoders of one latent space have the same shapes"),),
        under=UNDER,
        dialect=always("diffusers"),
    ),
    Family(
        "vae",
        _tiny_base("taesd_decoder.1.weight", 1),
        "a tiny autoencoder",
        marks=(has("taesd_decoder.1.weight", called="the layers of a tiny autoencoder"), most_of_it),
        dialect=always("taesd"),
    ),
    Family(
        "vae",
        _tiny_base("1.weight", 1),
        "the decoder of a tiny autoencoder",
        marks=(
            has("3.conv.0.weight", called="the layers of a tiny decoder"),
            axis("1.weight", 1, 4, 16, 32, called="latent channels"),
            axis("1.weight", 0, 64, called="channels"),
        ),
        unusable=HALF,
        dialect=always("taesd"),
    ),
    Family(
        "vae",
        Choice((), "unknown"),
        "the encoder of a tiny autoencoder",
        marks=(
            axis("0.weight", 1, 3, called="channels of a picture"),
            has("1.conv.0.weight", called="the layers of a tiny encoder"),
            rank("0.weight", 4, called="a convolution over pictures"),
        ),
        unusable=HALF,
        dialect=always("taesd"),
    ),
)

FAMILIES: tuple[Family, ...] = (*_KL, *_WAN, *_TINY, *unusual_vaes.FAMILIES)
