"""Unusual VAEs: autoencoders of videos and sounds, and of models that this program does not render; all are named.

A part of the room `vae`.
"""

from __future__ import annotations

from invokeai_daemon.models.identify.rules import most_of_it
from invokeai_daemon.models.identify.table import Family, Rule, axis, either, has, lacks, rank

UNDER = ("first_stage_model.", "vae.", "autoencoder.", "")
VIDEO = "this program makes pictures, not videos. You may delete it or leave it where it is"

_IN = "decoder.conv_in.weight"
_IN_3D = "decoder.conv_in.conv.weight"


def _video(base: str, name: str, *marks: Rule, under: tuple[str, ...] = UNDER) -> Family:
    return Family("vae", base, name, (*marks, most_of_it), under=under, unusable=VIDEO)


_VIDEO: tuple[Family, ...] = (
    _video(
        "svd",
        "a VAE of Stable Video Diffusion",
        has(
            "decoder.time_conv_out.*",
            "decoder.up.0.block.0.time_stack.*",
            "decoder.mid.block_1.mix_factor",
            called="a decoder over time",
        ),
    ),
    _video("unknown", "a VAE of Allegro", has("decoder.temp_conv_in.*", called="convolutions over time")),
    _video("unknown", "a VAE of EasyAnimate", has("decoder.mid_block.convs.*", called="EasyAnimate's middle block")),
    _video(
        "cogvideox",
        "a VAE of CogVideoX",
        has(
            "decoder.up_blocks.0.resnets.0.norm1.conv_y.conv.weight",
            "decoder.up.0.block.0.norm1.conv_y.conv.weight",
            called="the norms of CogVideoX",
        ),
    ),
    _video(
        "hunyuan-video",
        "a VAE of HunyuanVideo",
        has(_IN_3D, called="a decoder over time"),
        axis(_IN_3D, 1, 16, 32, called="latent channels"),
        lacks(
            "decoder.up_blocks.0.resnets.0.norm1.conv_y.conv.weight",
            "decoder.up.0.block.0.norm1.conv_y.conv.weight",
            "decoder.up.0.block.0.norm1.*conv_b.*",
            called="spatial norms",
        ),
    ),
    _video(
        "kandinsky",
        "a VAE of Kandinsky's videos",
        has(_IN_3D, called="a decoder over time"),
        has("decoder.up.0.block.0.norm1.*conv_b.*", called="the spatial norms of KVAE"),
    ),
    _video("unknown", "a VidTok autoencoder", has("decoder.up_temporal.*", called="steps over time")),
    _video(
        "ltx-video",
        "a VAE of LTX-Video",
        has(_IN_3D, called="a decoder over time"),
        axis(_IN_3D, 1, 128, called="latent channels"),
    ),
    _video(
        "mochi",
        "a VAE of Mochi",
        has(
            "decoder.block_in.resnets.*",
            "blocks.2.blocks.3.stack.5.weight",
            "decoder.blocks.2.blocks.3.stack.5.weight",
            "layers.4.layers.1.attn_block.attn.qkv.weight",
            "encoder.layers.4.layers.1.attn_block.attn.qkv.weight",
            called="the blocks of Mochi's VAE",
        ),
    ),
    _video(
        "cosmos",
        "a VAE of Cosmos",
        has("decoder.conv_in.conv_s.*", "decoder.unpatcher3d.*", called="the factorised convolutions of Cosmos"),
    ),
    Family(
        "vae",
        "unknown",
        "an autoencoder of sounds",
        marks=(
            has(
                "decoder.block.0.conv_t1.*",
                "decoder.layers.0.weight_v",
                "decoder.layers.1.layers.0.beta",
                "vocoder.backbone.channel_layers.0.0.bias",
                "decoder.resblocks.*",
                called="the layers of an autoencoder of sounds",
            ),
            most_of_it,
        ),
        under=(*UNDER[:-1], "pretransform.model.", ""),
        unusable="this program makes pictures, not sounds",
    ),
    Family(
        "vae",
        "unknown",
        "an autoencoder of sounds",
        marks=(
            axis(_IN_3D, 1, 8, called="latent channels"),
            rank(_IN_3D, 4, called="a convolution over a spectrogram"),
            most_of_it,
        ),
        under=UNDER,
        unusable="this program makes pictures, not sounds",
    ),
    _video(
        "unknown",
        "a tiny autoencoder of videos",
        has("decoder.7.conv.0.weight", "decoder.3.conv.0.weight", called="the layers of a tiny video autoencoder"),
        has("decoder.1.weight", called="the layers of a tiny video autoencoder"),
    ),
)

_OTHER: tuple[Family, ...] = (
    Family(
        "vae",
        "sd-1",
        "an asymmetric VAE for inpainting",
        marks=(has("decoder.condition_encoder.*", called="a decoder that looks at the masked picture"), most_of_it),
        rules=(axis(_IN, 1, 4, called="latent channels"),),
        under=UNDER,
        unusable="its decoder also wants the mask and the picture around it, which this program does not give it",
    ),
    Family(
        "vae",
        "kandinsky",
        "the MoVQ autoencoder of Kandinsky",
        marks=(
            has("decoder.up_blocks.0.resnets.0.norm1.conv_y.weight", called="spatial norms"),
            has("quantize.embedding.weight", called="a codebook"),
            most_of_it,
        ),
        under=UNDER,
        unusable="Kandinsky 2 is not supported",
    ),
    Family(
        "vae",
        "unknown",
        "a VQ autoencoder of latent diffusion",
        marks=(
            has("quantize.embedding.weight", called="a codebook"),
            either(has(_IN, called="a decoder"), has("decoder.model.*", called="a decoder")),
            lacks(
                "decoder.mid.attn_1.norm1.weight",
                "decoder.up_blocks.0.resnets.0.norm1.conv_y.weight",
                called="what a face restorer or Kandinsky has",
            ),
            most_of_it,
        ),
        under=UNDER,
        unusable="no model that this program renders uses a codebook of latents",
    ),
    Family(
        "vae",
        "sd-1",
        "a consistency decoder",
        marks=(has("decoder_unet.*", called="a decoder that is a UNet"), most_of_it),
        under=UNDER,
        unusable="a consistency decoder draws in steps of its own, which this program does not do. Use a plain VAE",
    ),
    Family(
        "vae",
        "stable-cascade",
        "stage A of Stable Cascade",
        marks=(
            has("vquantizer.codebook.weight", called="the codebook of Paella's autoencoder"),
            has("out_block.0.weight", "up_blocks.*", called="its decoder"),
        ),
        under=("", "vqgan."),
        unusable="Stable Cascade is not supported",
    ),
    Family(
        "vae",
        "stable-cascade",
        "the decoder of previews of Stable Cascade",
        marks=(
            has("blocks.11.num_batches_tracked", called="its norms"),
            axis("blocks.0.weight", 1, 16, called="latent channels"),
        ),
        under=("previewer.", ""),
        unusable="Stable Cascade is not supported",
    ),
    Family(
        "vae",
        "stable-cascade",
        "the image encoder of Stable Cascade (EfficientNet)",
        marks=(has("mapper.0.weight", called="a mapper to latents"), has("backbone.1.0.*", called="an EfficientNet")),
        under=("encoder.", "effnet.", ""),
        unusable="Stable Cascade is not supported",
    ),
)

FAMILIES: tuple[Family, ...] = (*_VIDEO, *_OTHER)
