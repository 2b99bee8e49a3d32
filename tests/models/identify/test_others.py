"""What no job uses is named all the same, and says why it is not used and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from invokeai_daemon.models.identify import judge
from tests.models.build import header_of
from tests.models.identify.architectures import Shapes, diffusers, transformers

SD: dict[str, Any] = {"block_out_channels": [320, 640, 1280, 1280]}


def original_motion(blocks: int) -> Shapes:
    shapes: Shapes = {}
    for side in ("down", "up"):
        for block in range(blocks):
            stem = f"{side}_blocks.{block}.motion_modules.0.temporal_transformer"
            shapes[f"{stem}.norm.weight"] = (320,)
            shapes[f"{stem}.transformer_blocks.0.attention_blocks.0.pos_encoder.pe"] = (1, 24, 320)
    return shapes


VIDEOS: list[tuple[str, Shapes, str]] = [
    ("AnimateDiff by diffusers", diffusers("MotionAdapter", **SD), "sd-1"),
    (
        "AnimateDiff v2",
        original_motion(4) | {"mid_block.motion_modules.0.temporal_transformer.norm.weight": (1280,)},
        "sd-1",
    ),
    ("AnimateDiff in a wrapper", {f"module.{name}": shape for name, shape in original_motion(4).items()}, "sd-1"),
    ("AnimateDiff for SDXL", original_motion(3), "sdxl"),
    ("HotShot-XL", {"down_blocks.1.temporal_attentions.0.norm.weight": (640,)}, "sdxl"),
]


@pytest.mark.parametrize(("shapes", "base"), [case[1:] for case in VIDEOS], ids=[case[0] for case in VIDEOS])
def test_motion_modules_are_for_videos(shapes: Shapes, base: str) -> None:
    verdict = judge(header_of(shapes))
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("unusable", "motion_adapter", base)
    assert "videos" in verdict.reason


def hypernetwork(width: int) -> Shapes:
    return {f"{width}.{half}.linear.{layer}.weight": (2 * width, width) for half in (0, 1) for layer in (0, 1)}


def test_hypernetworks_are_named() -> None:
    for width, base in ((768, "sd-1"), (1024, "sd-2")):
        verdict = judge(header_of(hypernetwork(320) | hypernetwork(width)))
        assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("unusable", "hypernetwork", base)
        assert "Use a LoRA" in verdict.reason
    verdict = judge(header_of({}, None, {"layer_structure": "[1, 2, 1]", "activation_func": "relu", "step": 5000}))
    assert verdict.identity.type == "hypernetwork"


NAMED: list[tuple[str, Shapes, str]] = [
    (
        "Depth Anything",
        {"pretrained.blocks.0.attn.qkv.weight": (1, 1), "depth_head.scratch.layer1_rn.weight": (1, 1, 3, 3)},
        "Depth Anything",
    ),
    ("MiDaS", {"pretrained.model.blocks.0.attn.qkv.weight": (1, 1), "scratch.layer1_rn.weight": (1, 1, 3, 3)}, "MiDaS"),
    (
        "ZoeDepth",
        {"core.core.pretrained.x.weight": (1, 1), "conditional_log_binomial.log_binomial_transform.k_idx": (1,)},
        "ZoeDepth",
    ),
    ("DPT", transformers("DPTForDepthEstimation", "DPTConfig", num_hidden_layers=12), "DPT"),
    ("LeReS", {"depth_model.encoder_modules.x.weight": (1,), "depth_model.decoder_modules.x.weight": (1,)}, "LeReS"),
    ("NormalBae", {"encoder.original_model.conv_stem.weight": (1,), "decoder.conv2.weight": (1,)}, "NormalBae"),
    ("HED", {"norm": (1,), "block1.projection.weight": (1,), "block5.projection.weight": (1,)}, "HED"),
    ("PiDiNet", {"module.init_block.weight": (1,), "module.block1_1.conv1.weight": (1,)}, "PiDiNet"),
    ("M-LSD", {"backbone.features.0.0.weight": (1,), "block15.conv1.0.weight": (1,)}, "M-LSD"),
    ("line art", {"model0.1.weight": (1,), "model2.0.conv_block.1.weight": (1,), "model4.1.weight": (1,)}, "line-art"),
    ("OpenPose", {"conv1_1.weight": (64, 3, 3, 3), "Mconv1_stage2_L1.weight": (1,)}, "OpenPose"),
    ("OpenPose hands", {"conv1_1.weight": (64, 3, 3, 3), "Mconv1_stage2.weight": (1,)}, "OpenPose"),
    ("RetinaFace", {"ClassHead.0.conv1x1.weight": (1,), "LandmarkHead.0.conv1x1.weight": (1,)}, "RetinaFace"),
    ("ParseNet", {"out_mask_conv.conv2d.weight": (1,), "encoder.0.conv2d.weight": (1,)}, "face parser"),
    (
        "SAM",
        {"image_encoder.blocks.0.attn.qkv.weight": (1,), "mask_decoder.iou_token.weight": (1,)},
        "Segment Anything",
    ),
    ("SAM by transformers", transformers("SamModel", "SamConfig"), "Segment Anything"),
    ("SAM 2", {"image_encoder.trunk.blocks.0.x": (1,), "sam_mask_decoder.iou_token.weight": (1,)}, "Segment Anything"),
    ("CLIPSeg", transformers("CLIPSegForImageSegmentation", "CLIPSegConfig"), "CLIPSeg"),
    ("BLIP", transformers("BlipForConditionalGeneration", "BlipConfig"), "BLIP"),
    ("IS-Net", {"stage1.rebnconvin.conv_s1.weight": (1,)}, "cut-out"),
    ("YOLO", {"model.0.conv.weight": (1,), "model.22.dfl.conv.weight": (1,)}, "YOLO"),
    (
        "a tagger",
        {"patch_embed.proj.weight": (1, 3, 16, 16), "blocks.0.attn.qkv.weight": (1,), "head.weight": (9083, 768)},
        "tagger",
    ),
    (
        "a safety checker",
        {"concept_embeds": (17, 768), "special_care_embeds": (3, 768), "vision_model.vision_model.x": (1,)},
        "safety checker",
    ),
    (
        "an aesthetic predictor",
        {"layers.0.weight": (1024, 768), "layers.0.bias": (1024,), "layers.7.weight": (1, 16)},
        "aesthetic",
    ),
    ("VAE-approx", {f"conv{n}.weight": (8, 4 if n == 1 else 8, 7, 7) for n in range(1, 9)}, "VAE-approx"),
    (
        "a discriminator",
        {"conv0.weight": (64, 3, 3, 3), "conv1.weight_orig": (1,), "conv9.weight": (1,)},
        "discriminator",
    ),
    ("an optimizer", {f"optimizer.state.{n}.exp_avg": (4, 4) for n in range(5)}, "state of a training"),
    ("PuLID", {"pulid_ca.0.to_q.weight": (1,), "pulid_encoder.x": (1,)}, "PuLID"),
]


@pytest.mark.parametrize(("shapes", "name"), [case[1:] for case in NAMED], ids=[case[0] for case in NAMED])
def test_what_no_job_uses_is_named(shapes: Shapes, name: str) -> None:
    verdict = judge(header_of(shapes))
    assert (verdict.state, verdict.identity.type) == ("unusable", "other")
    assert name in verdict.reason


def test_the_state_of_a_training_says_what_to_drop_instead() -> None:
    verdict = judge(header_of({}, None, {"optimizer_states": 1, "epoch": 7}))
    assert verdict.state == "unusable"
    assert "Drop the model that the training saved" in verdict.reason
