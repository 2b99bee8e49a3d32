"""Upscalers and restorers: the networks that spandrel runs, told by their layers and by how much they enlarge.

A row of the table is an architecture in spandrel's words. Spandrel itself needs torch and the tensors; the tests hold
this table against it. Scale and channels follow from shapes and are evidence. Never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from invokeai_daemon.models.identify.rules import every, size, tells
from invokeai_daemon.models.identify.table import Answer, Family, Rule, lacks
from invokeai_daemon.models.identify.upscaler_scales import (
    Scale,
    as_dat,
    as_drct,
    as_grl,
    as_swin,
    aura,
    codebook,
    compact,
    cugan,
    direct,
    esrgan_new,
    esrgan_old,
    ipt,
    mm_real,
    mosr,
    one,
    plksr,
    rcan,
    shuffled,
    swift,
    unsaid,
)
from invokeai_daemon.models.identify.weights import Weights

#: What trainers put around the names. `model.` belongs to some architectures themselves.
WRAPPED = tuple(
    outer + inner
    for outer in ("params_ema.", "params-ema.", "params.", "model_state_dict.", "net_g_ema.", "net_g.", "")
    for inner in ("module.", "netG.", "_orig_mod.", "")
)
WRAPPED_BY_MODEL = (*WRAPPED[:-1], "net.", "model.module.", "model.", "")


@dataclass(frozen=True)
class Architecture:
    """What tells one network from the others."""

    #: Spandrel's name of it.
    name: str
    #: Tensors that it has, the most telling first.
    has: tuple[str, ...]
    #: Where its first and last convolution are.
    first: str
    last: str = ""
    scale: Scale = one
    #: Tensors of architectures that look like it.
    lacks: tuple[str, ...] = ()
    #: What it is for, where it does not enlarge.
    restores: str = "restores pictures"
    under: tuple[str, ...] = WRAPPED_BY_MODEL
    #: Conditions on shapes, where names alone would also fit other files.
    rules: tuple[Rule, ...] = ()


def describe(architecture: Architecture, weights: Weights) -> str:
    """The sentence on scale and channels."""
    scale, taken = architecture.scale(weights), size(weights, architecture.first, 1)
    given = size(weights, architecture.last, 0) if architecture.last else None
    if scale is None:
        what = "enlarges pictures (its shapes do not say how much)"
    else:
        what = architecture.restores if scale == 1 else f"enlarges pictures {scale} times"
    channels = f", {taken} channels go into its first layer" if taken else ""
    return f"its architecture is {architecture.name}: it {what}{channels}" + (f", {given} come out" if given else "")


def _layers_only(weights: Weights) -> Answer:
    """A plain row of convolutions: nothing but `model.N` is in the file. (A rule.)"""
    other = next((name for name in weights.names if not name.startswith("model.")), None)
    deeper = next((name for name in weights.names if name.count(".") != 2), None)
    wrong = other or deeper
    return Answer(wrong is None, f"it has {wrong}" if wrong else "it is a plain row of convolutions (model.0.weight)")


def _convolutions(*patterns: str) -> Rule:
    """These are kernels of 3×3 pixels."""

    def rule(weights: Weights) -> Answer:
        for pattern in patterns:
            if (size(weights, pattern, -1), size(weights, pattern, -2)) != (3, 3):
                return Answer(False, f"{pattern} is no convolution of 3×3 pixels")
        return Answer(True)

    return rule


def _activation(weights: Weights) -> Answer:
    """SRVGG alternates convolutions and PReLU; with ReLU the numbers skip. (A rule.)"""
    found = weights.find("body.1.weight", "body.2.weight")
    holds = found is not None and (len(found.shape) == 1 or found.name.endswith("body.2.weight"))
    return Answer(holds, "" if holds else "its convolutions do not alternate with activations")


def _body_only(weights: Weights) -> Answer:
    other = next((name for name in weights.names if not name.startswith("body.") or name.count(".") != 2), None)
    return Answer(other is None, f"it has {other}" if other else "")


_RDB = "RDB1.conv1.0.weight"
_BLOCK = "layers.0.residual_group.blocks.0"
_FACES = "restores faces"
_FILLS = "fills in what is masked"

ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(
        "ESRGAN",
        (f"model.1.sub.0.{_RDB}", "model.0.weight"),
        "model.0.weight",
        scale=esrgan_old,
        lacks=("f_HR_conv1.0.weight",),
        under=WRAPPED,
    ),
    Architecture(
        "ESRGAN",
        ("model.1.sub.0.RDB1.conv1x1.weight", "model.0.weight"),
        "model.0.weight",
        scale=esrgan_old,
        lacks=(f"model.1.sub.0.{_RDB}",),
        under=WRAPPED,
    ),
    Architecture(
        "ESRGAN",
        ("body.0.rdb1.conv1.weight", "conv_first.weight", "conv_body.weight", "conv_last.weight"),
        "conv_first.weight",
        "conv_last.weight",
        esrgan_new,
        lacks=("de_net.conv_first.0.weight",),
    ),
    Architecture(
        "ESRGAN",
        ("RRDB_trunk.0.RDB1.conv1.weight", "conv_first.weight", "trunk_conv.weight", "conv_last.weight"),
        "conv_first.weight",
        "conv_last.weight",
        esrgan_new,
    ),
    Architecture(
        "Compact",
        ("body.0.weight",),
        "body.0.weight",
        scale=compact,
        rules=(_convolutions("body.0.weight"), _activation, _body_only),
    ),
    Architecture(
        "SwiftSRGAN",
        ("initial.cnn.depthwise.weight", "final_conv.pointwise.weight"),
        "initial.cnn.pointwise.weight",
        "final_conv.pointwise.weight",
        swift,
    ),
    Architecture(
        "HAT",
        (
            "layers.0.residual_group.overlap_attn.qkv.weight",
            f"{_BLOCK}.conv_block.cab.0.weight",
            "conv_first.weight",
        ),
        "conv_first.weight",
        "conv_last.weight",
        shuffled("upsample"),
    ),
    Architecture(
        "GRL",
        ("layers.0.blocks.0.attn.window_attn.attn_transform.logit_scale", "norm_start.weight", "conv_first.weight"),
        "conv_first.weight",
        scale=as_grl,
        under=("model_g.", *WRAPPED_BY_MODEL),
    ),
    Architecture(
        "Swin2SR",
        (f"{_BLOCK}.attn.logit_scale", f"{_BLOCK}.mlp.fc1.bias", "conv_first.weight"),
        "conv_first.weight",
        scale=as_swin,
    ),
    Architecture(
        "SwinIR",
        (f"{_BLOCK}.attn.relative_position_bias_table", f"{_BLOCK}.mlp.fc1.bias", "conv_first.*weight"),
        "conv_first.*weight",
        scale=as_swin,
        lacks=(
            f"{_BLOCK}.attn.logit_scale",
            f"{_BLOCK}.attn.aligned_relative_position_index",
            f"{_BLOCK}.conv_block.cab.0.weight",
            "multiscale_encoder.in_conv.weight",
        ),
    ),
    Architecture(
        "SRFormer",
        (f"{_BLOCK}.attn.aligned_relative_position_index", f"{_BLOCK}.mlp.fc1.bias", "conv_first.weight"),
        "conv_first.weight",
        scale=as_swin,
    ),
    Architecture(
        "GFPGAN",
        ("stylegan_decoder.style_mlp.1.weight", "toRGB.0.weight"),
        "conv_body_first.weight",
        restores=_FACES,
    ),
    Architecture(
        "RestoreFormer",
        (
            "quantize.embedding.weight",
            "encoder.conv_in.weight",
            "decoder.conv_out.weight",
            "decoder.mid.attn_1.norm1.weight",
            "encoder.down.0.block.0.norm1.weight",
            "decoder.mid.block_1.norm1.weight",
            "decoder.up.0.block.0.norm1.weight",
        ),
        "encoder.conv_in.weight",
        "decoder.conv_out.weight",
        restores=_FACES,
    ),
    Architecture(
        "CodeFormer",
        (
            "idx_pred_layer.1.weight",
            "position_emb",
            "quantize.embedding.weight",
            "ft_layers.0.self_attn.in_proj_weight",
        ),
        "encoder.blocks.0.weight",
        restores=_FACES,
    ),
    Architecture(
        "LaMa",
        ("model.1.bn_l.running_mean",),
        "model.1.ffc.convl2l.weight",
        restores=_FILLS,
        under=("generator.", "model.", ""),
    ),
    Architecture(
        "MAT",
        ("synthesis.first_stage.conv_first.conv.resample_filter",),
        "synthesis.first_stage.conv_first.conv.weight",
        restores=_FILLS,
    ),
    Architecture(
        "OmniSR",
        ("residual_layer.0.residual_layer.0.layer.0.fn.0.weight", "input.weight", "up.0.weight"),
        "input.weight",
        scale=direct("up.0.weight", "input.weight"),
    ),
    Architecture(
        "SCUNet",
        ("m_head.0.weight", "m_tail.0.weight", "m_body.0.trans_block.ln1.weight"),
        "m_head.0.weight",
        "m_tail.0.weight",
    ),
    Architecture(
        "FBCNN",
        ("qf_pred.0.res.0.weight", "m_head.weight", "m_body_encoder.0.res.0.weight", "m_tail.weight"),
        "m_head.weight",
        "m_tail.weight",
    ),
    Architecture(
        "DRUNet",
        ("m_body.0.res.0.weight", "m_head.weight", "m_down1.0.res.0.weight", "m_tail.weight"),
        "m_head.weight",
        "m_tail.weight",
    ),
    Architecture(
        "DnCNN",
        ("model.0.weight", "model.2.weight", "model.0.bias", "model.2.bias"),
        "model.0.weight",
        rules=(_layers_only, _convolutions("model.0.weight", "model.2.weight")),
        under=WRAPPED,
    ),
    Architecture(
        "Uformer",
        ("encoderlayer_0.blocks.0.norm1.weight", "input_proj.proj.0.weight", "output_proj.proj.0.weight"),
        "input_proj.proj.0.weight",
        "output_proj.proj.0.weight",
    ),
    Architecture(
        "RGT",
        ("layers.0.blocks.0.gamma", "before_RG.1.weight", "layers.0.blocks.0.attn.attns.0.rpe_biases"),
        "conv_first.weight",
        "conv_last.weight",
        shuffled("upsample"),
    ),
    Architecture(
        "DAT",
        ("layers.0.blocks.0.ffn.sg.conv.weight", "before_RG.1.weight", "layers.0.blocks.0.attn.attns.0.rpe_biases"),
        "conv_first.weight",
        scale=as_dat,
    ),
    Architecture(
        "CRAFT",
        ("layers.0.residual_group.hf_blocks.0.attn.temperature", "conv_first.weight"),
        "conv_first.weight",
        scale=direct("upsample.0.weight", "conv_first.weight"),
    ),
    Architecture(
        "KBNet",
        ("middle_blks.0.w", "intro.weight", "encoders.0.0.attgamma", "ending.weight"),
        "intro.weight",
        "ending.weight",
    ),
    Architecture(
        "KBNet",
        ("latent.0.ffn.qkv.weight", "patch_embed.proj.weight", "refinement.0.attn.dwconv.0.weight"),
        "patch_embed.proj.weight",
        "output.weight",
    ),
    Architecture(
        "DITN",
        ("UFONE.0.ITLs.0.attn.temperature", "sft.weight", "upsample.0.weight"),
        "sft.weight",
        scale=direct("upsample.0.weight", "sft.weight"),
    ),
    Architecture(
        "MMRealSR",
        ("de_net.conv_first.0.weight", "conv_first.weight", "am_list.0.fc.0.weight", "body.0.rdb1.conv1.weight"),
        "conv_first.weight",
        "conv_last.weight",
        mm_real,
    ),
    Architecture(
        "SPAN",
        ("block_1.c1_r.sk.weight", "conv_1.sk.weight", "conv_cat.weight", "upsampler.0.weight"),
        "conv_1.sk.weight",
        scale=direct("upsampler.0.weight", "conv_1.sk.weight"),
    ),
    Architecture(
        "RealCUGAN",
        ("unet2.conv2.seblock.conv1.weight", "unet1.conv1.conv.0.weight", "unet1.conv_bottom.weight"),
        "unet1.conv1.conv.0.weight",
        scale=cugan,
    ),
    Architecture(
        "SAFMN",
        ("feats.0.safm.mfr.0.weight", "to_feat.weight", "to_img.0.weight"),
        "to_feat.weight",
        scale=direct("to_img.0.weight", "to_feat.weight"),
    ),
    Architecture(
        "SAFMNBCIE",
        ("feats.0.layers.0.safm.mfr.0.weight", "to_feat.1.weight", "to_img.0.weight"),
        "to_feat.1.weight",
    ),
    Architecture(
        "DCTLSA",
        ("B1.body.0.transformer_body.0.blocks.0.attn.qkv.weight", "fea_conv.weight", "upsampler.0.weight"),
        "fea_conv.weight",
        scale=direct("upsampler.0.weight", "fea_conv.weight"),
    ),
    Architecture(
        "FFTformer",
        ("encoder_level1.0.ffn.fft", "patch_embed.proj.weight", "fuse2.att_channel.ffn.fft"),
        "patch_embed.proj.weight",
        "output.weight",
    ),
    Architecture(
        "NAFNet",
        ("middle_blks.0.sca.1.weight", "intro.weight", "encoders.0.0.beta", "ending.weight"),
        "intro.weight",
        "ending.weight",
        lacks=("middle.0.0.conv1.weight", "middle_blks.0.w"),
    ),
    Architecture(
        "M3SNet",
        ("middle.0.0.conv1.weight", "intro.weight", "encoders.0.0.beta", "ending.weight"),
        "intro.weight",
        "ending.weight",
    ),
    Architecture(
        "ATD",
        ("layers.0.residual_group.layers.0.attn_atd.scale", "layers.0.residual_group.td", "conv_first.weight"),
        "conv_first.weight",
        scale=as_swin,
    ),
    Architecture(
        "MixDehazeNet",
        ("layer1.blocks.0.conv3_19.weight", "patch_embed.proj.weight", "skip1.weight"),
        "patch_embed.proj.weight",
        restores="takes haze out of pictures",
    ),
    Architecture(
        "IPT",
        ("body.encoder.layers.0.self_attn.in_proj_weight", "head.0.0.weight", "tail.0.1.weight"),
        "head.0.0.weight",
        "tail.0.1.weight",
        ipt,
    ),
    Architecture(
        "DRCT",
        ("layers.0.swin1.attn.qkv.weight", "layers.0.adjust1.weight", "conv_first.weight"),
        "conv_first.weight",
        scale=as_drct,
    ),
    Architecture(
        "PLKSR",
        ("feats.1.refine.weight", "feats.0.weight", "feats.1.lk.*", "feats.1.channe*_mixer.0.weight"),
        "feats.0.weight",
        scale=plksr,
    ),
    Architecture(
        "RetinexFormer",
        ("body.0.estimator.conv1.weight", "body.0.denoiser.embedding.weight"),
        "body.0.denoiser.embedding.weight",
        restores="brightens dark pictures",
    ),
    Architecture(
        "HVICIDNet",
        ("trans.density_k", "HVE_block0.1.weight", "HV_LCA1.ffn.temperature"),
        "HVE_block0.1.weight",
        restores="brightens dark pictures",
    ),
    Architecture(
        "SeemoRe",
        ("body.0.local_block.block.moe_layer.experts.0.conv_1.weight", "conv_1.weight", "upsampler.0.weight"),
        "conv_1.weight",
        scale=direct("upsampler.0.weight", "conv_1.weight"),
    ),
    Architecture(
        "MoSR",
        ("gblocks.1.fc1.weight", "gblocks.0.weight", "gblocks.1.conv.weight"),
        "gblocks.0.weight",
        scale=mosr,
    ),
    Architecture(
        "MoESR",
        ("blocks.0.blocks.0.conv.dwconv_hw.weight", "in_to_dim.weight", "upscale.MetaUpsample"),
        "in_to_dim.weight",
        scale=unsaid,
    ),
    Architecture(
        "RCAN",
        ("body.0.body.0.body.3.conv_du.0.weight", "head.*.weight", "tail.1.weight"),
        "head.*.weight",
        "tail.1.weight",
        rcan,
    ),
    Architecture(
        "FDAT",
        ("groups.0.blocks.0.inter.cg.1.weight", "groups.0.blocks.0.attn.bias", "upsampler.MetaUpsample"),
        "conv_first.*weight",
        scale=unsaid,
    ),
    Architecture(
        "AuraSR",
        ("mid_attn.layers.0.0.to_out.weight", "mid_block2.block1.proj.weights", "final_to_rgb.weight"),
        "init_conv.weight",
        "final_to_rgb.weight",
        aura,
    ),
    Architecture(
        "DDColor",
        ("refine_net.0.0.weight_orig", "encoder.arch.downsample_layers.0.0.weight"),
        "encoder.arch.downsample_layers.0.0.weight",
        restores="gives colours to grey pictures",
    ),
    Architecture(
        "AdaCode",
        ("weight_predictor.blocks.0.swin_blks.0.residual_group.blocks.0.norm1.weight", "out_conv.weight"),
        "multiscale_encoder.in_conv.weight",
        "out_conv.weight",
        codebook,
    ),
    Architecture(
        "FeMaSR",
        ("after_quant_group.0.conv.weight", "multiscale_encoder.in_conv.weight", "out_conv.weight"),
        "multiscale_encoder.in_conv.weight",
        "out_conv.weight",
        codebook,
        lacks=("weight_predictor.blocks.0.swin_blks.0.residual_group.blocks.0.norm1.weight",),
    ),
    Architecture(
        "Restormer",
        (
            "encoder_level1.0.attn.qkv_dwconv.weight",
            "patch_embed.proj.weight",
            "latent.0.attn.temperature",
            "output.weight",
        ),
        "patch_embed.proj.weight",
        "output.weight",
        lacks=("latent.0.ffn.qkv.weight", "encoder_level1.0.ffn.fft"),
    ),
    Architecture(
        "MPRNet",
        ("stage1_encoder.encoder_level1.0.CA.conv_du.0.weight", "shallow_feat1.0.weight", "sam12.conv1.weight"),
        "shallow_feat1.0.weight",
        "tail.weight",
    ),
    Architecture(
        "MIRNet2",
        ("body.0.body.0.dau_top.gcnet.conv_mask.weight", "conv_in.weight", "conv_out.weight"),
        "conv_in.weight",
        "conv_out.weight",
    ),
)


def _families() -> Iterator[Family]:
    for architecture in ARCHITECTURES:
        yield Family(
            "spandrel_image_to_image",
            "any",
            f"an image-to-image network of the architecture {architecture.name}",
            marks=(every(*architecture.has, called=f"the layers of {architecture.name}"),),
            rules=(
                *architecture.rules,
                *([lacks(*architecture.lacks, called="what another architecture has")] if architecture.lacks else []),
                tells(lambda weights, each=architecture: describe(each, weights)),  # type: ignore[misc]
            ),
            under=architecture.under,
        )


FAMILIES: tuple[Family, ...] = tuple(_families())
