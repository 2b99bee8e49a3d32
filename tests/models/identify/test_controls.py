"""ControlNets, T2I-Adapters and IP-Adapters are known in every layout, with the base that they attach to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.models.identify import identify, judge
from invokeai_daemon.models.identity import Verdict
from tests.models.build import header_of, sd_1
from tests.models.identify.architectures import Shapes, diffusers, original_controlnet, under


def judged(shapes: Shapes, scalars: dict[str, int | float | str] | None = None) -> Verdict:
    return judge(replace(header_of(shapes, None, scalars), path=Path("control.safetensors")))


SDXL: dict[str, Any] = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "cross_attention_dim": 2048,
}
UNION = SDXL | {"num_control_type": 6, "num_attention_heads": 8}

CONTROLNETS: list[tuple[str, Shapes, str]] = [
    ("diffusers sd-1", diffusers("ControlNetModel", cross_attention_dim=768), "sd-1"),
    ("diffusers sd-2", diffusers("ControlNetModel", cross_attention_dim=1024), "sd-2"),
    ("diffusers sdxl", diffusers("ControlNetModel", **SDXL), "sdxl"),
    ("union", diffusers("ControlNetUnionModel", **UNION), "sdxl"),
    ("lllyasviel sd-1", original_controlnet(768, "control_model."), "sd-1"),
    ("lllyasviel sd-2", original_controlnet(1024, "control_model."), "sd-2"),
    ("bare sd-1", original_controlnet(768), "sd-1"),
    ("bare sd-2", original_controlnet(1024), "sd-2"),
    ("bare sdxl", original_controlnet(2048, sizes=True), "sdxl"),
    ("FLUX InstantX", diffusers("FluxControlNetModel", num_layers=1, num_single_layers=1), "flux"),
    ("FLUX union", diffusers("FluxControlNetModel", num_layers=1, num_single_layers=0, num_mode=10), "flux"),
    ("SD-3", diffusers("SD3ControlNetModel", num_layers=1), "sd-3"),
    ("Qwen-Image", diffusers("QwenImageControlNetModel", num_layers=1), "qwen-image"),
    ("Z-Image", diffusers("ZImageControlNetModel", control_layers_places=[0, 2], control_in_dim=16), "z-image"),
]


@pytest.mark.parametrize(("shapes", "base"), [case[1:] for case in CONTROLNETS], ids=[case[0] for case in CONTROLNETS])
def test_a_controlnet_is_known_with_its_base(shapes: Shapes, base: str) -> None:
    verdict = judged(shapes)
    identity = verdict.identity
    assert (verdict.state, identity.type, identity.base, identity.format) == ("ok", "controlnet", base, "checkpoint")
    assert identity.assumed == ()
    assert identity.evidence


def test_a_controlnet_of_sdxl_without_attention_is_told_by_its_input_for_sizes() -> None:
    shapes = {name: shape for name, shape in diffusers("ControlNetModel", **SDXL).items() if "attentions" not in name}
    assert judged(shapes).identity.base == "sdxl"


def test_a_controlnet_of_a_width_that_no_base_has_asks_for_a_sidecar() -> None:
    verdict = judged(diffusers("ControlNetModel", cross_attention_dim=640))
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("unusable", "controlnet", "unknown")
    assert "sidecar" in verdict.reason


def test_a_controlnet_published_with_its_whole_model_is_a_controlnet() -> None:
    both = dict(sd_1()) | original_controlnet(768, "control_model.")
    identity = identify(header_of(both))
    assert (identity.type, identity.base) == ("controlnet", "sd-1")


def test_a_controlnet_that_holds_only_differences_says_so() -> None:
    verdict = judged(original_controlnet(768) | {"difference": ()})
    assert (verdict.state, verdict.identity.base) == ("unusable", "sd-1")
    assert "differences" in verdict.reason


def control_lora() -> Shapes:
    shapes: Shapes = {
        "lora_controlnet": (),
        "zero_convs.0.0.weight": (320, 320, 1, 1),
        "label_emb.0.0.down": (256, 2816),
    }
    for part in ("attn1.to_q", "attn2.to_k"):
        shapes[f"input_blocks.4.1.transformer_blocks.0.{part}.up"] = (640, 256)
        shapes[f"input_blocks.4.1.transformer_blocks.0.{part}.down"] = (256, 2048 if part == "attn2.to_k" else 640)
    return shapes | {"input_hint_block.0.weight": (16, 3, 3, 3)}


def lllite(blocks: int) -> Shapes:
    shapes: Shapes = {}
    for block in range(blocks):
        name = f"lllite_unet_input_blocks_4_1_transformer_blocks_{block}_attn1_to_q"
        shapes |= {
            f"{name}.conditioning1.0.weight": (16, 3, 4, 4),
            f"{name}.down.0.weight": (16, 640),
            f"{name}.mid.0.weight": (16, 48),
            f"{name}.up.0.weight": (640, 16),
        }
    return shapes


def xlabs() -> Shapes:
    return {
        "controlnet_blocks.0.weight": (3072, 3072),
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
        "double_blocks.0.img_attn.qkv.weight": (9216, 3072),
        "input_hint_block.0.weight": (16, 3, 3, 3),
        "pos_embed_input.weight": (3072, 64),
        "img_in.weight": (3072, 64),
    }


def test_a_flux_controlnet_of_xlabs_is_no_main_model() -> None:
    verdict = judged(xlabs())
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("ok", "controlnet", "flux")


UNUSABLE: list[tuple[str, Shapes, str, str]] = [
    ("Control-LoRA", control_lora(), "sdxl", "completed from the model"),
    ("LLLite", lllite(2), "sdxl", "a way of its own"),
    ("LLLite of Anima", {"lllite_dit_blocks_0_self_attn_q.down.0.weight": (16, 16)}, "anima", "not supported"),
    ("ControlNet-XS", diffusers("UNetControlNetXSModel"), "sd-2", "a way of its own"),
    ("SparseCtrl", diffusers("SparseControlNetModel"), "sd-1", "videos"),
    ("Sana", diffusers("SanaControlNetModel", num_layers=1), "sana", "not supported"),
    ("Cosmos", diffusers("CosmosControlNetModel"), "cosmos", "not supported"),
]


@pytest.mark.parametrize(("shapes", "base", "why"), [case[1:] for case in UNUSABLE], ids=[case[0] for case in UNUSABLE])
def test_what_attaches_in_another_way_is_named_and_says_why(shapes: Shapes, base: str, why: str) -> None:
    verdict = judged(shapes)
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("unusable", "controlnet", base)
    assert why in verdict.reason


# T2I-Adapters


def original_t2i(channels: int) -> Shapes:
    shapes: Shapes = {"conv_in.weight": (320, channels, 3, 3)}
    for block in range(8):
        shapes |= {f"body.{block}.block1.weight": (320, 320, 3, 3), f"body.{block}.block2.weight": (320, 320, 1, 1)}
    return shapes


T2I: list[tuple[str, Shapes, str]] = [
    ("full", diffusers("T2IAdapter"), "sd-1"),
    ("full of a grey picture", diffusers("T2IAdapter", in_channels=1), "sd-1"),
    ("light", diffusers("T2IAdapter", adapter_type="light_adapter"), "sd-1"),
    ("sdxl", diffusers("T2IAdapter", adapter_type="full_adapter_xl", downscale_factor=16), "sdxl"),
    ("original", original_t2i(192), "sd-1"),
    ("original of a grey picture", original_t2i(64), "sd-1"),
    ("original sdxl", original_t2i(768), "sdxl"),
    ("original in a wrapper", under("adapter.", original_t2i(192)), "sd-1"),
]


@pytest.mark.parametrize(("shapes", "base"), [case[1:] for case in T2I], ids=[case[0] for case in T2I])
def test_a_t2i_adapter_is_told_by_the_size_of_its_blocks_of_pixels(shapes: Shapes, base: str) -> None:
    verdict = judged(shapes)
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("ok", "t2i_adapter", base)


def test_style_adapters_and_fusers_are_named() -> None:
    style: Shapes = {
        "transformer_layes.0.attn.in_proj_weight": (3072, 1024),
        "style_embedding": (1, 8, 1024),
        "ln_pre.weight": (1024,),
    }
    verdict = judged(style)
    assert (verdict.state, verdict.identity.type) == ("unusable", "t2i_adapter")


# IP-Adapters


def ip_adapter(context: int, projection: Shapes, *, lora: bool = False) -> Shapes:
    shapes = under("image_proj.", projection)
    for number in range(1, 32, 2):
        shapes[f"ip_adapter.{number}.to_k_ip.weight"] = (320, context)
        shapes[f"ip_adapter.{number}.to_v_ip.weight"] = (320, context)
    if lora:
        for number in range(32):
            shapes[f"ip_adapter.{number}.to_q_lora.down.weight"] = (128, 320)
            shapes[f"ip_adapter.{number}.to_q_lora.up.weight"] = (320, 128)
    return shapes


def normal(context: int, width: int) -> Shapes:
    return {"proj.weight": (4 * context, width), "proj.bias": (4 * context,), "norm.weight": (context,)}


def plus(context: int, width: int, inner: int) -> Shapes:
    return {
        "latents": (1, 16, inner),
        "proj_in.weight": (inner, width),
        "proj_out.weight": (context, inner),
        "layers.0.0.to_q.weight": (inner, inner),
        "layers.0.0.to_out.weight": (inner, inner),
    }


def full(context: int, width: int) -> Shapes:
    return {"proj.0.weight": (width, width), "proj.2.weight": (context, width), "proj.3.weight": (context,)}


def face(context: int, *, resampler: bool = False) -> Shapes:
    shapes: Shapes = {"proj.0.weight": (1024, 512), "proj.2.weight": (4 * context, 1024), "norm.weight": (context,)}
    return shapes | ({"perceiver_resampler.proj_in.weight": (768, 1280)} if resampler else {})


IP: list[tuple[str, Shapes, str, str]] = [
    ("sd-1", ip_adapter(768, normal(768, 1024)), "sd-1", "ViT-H"),
    ("sd-2", ip_adapter(1024, normal(1024, 1024)), "sd-2", "ViT-H"),
    ("sdxl vit-H", ip_adapter(2048, normal(2048, 1024)), "sdxl", "ViT-H"),
    ("sdxl vit-G", ip_adapter(2048, normal(2048, 1280)), "sdxl", "ViT-bigG"),
    ("sd-1 plus", ip_adapter(768, plus(768, 1280, 768)), "sd-1", "ViT-H"),
    ("sdxl plus", ip_adapter(2048, plus(2048, 1280, 1280)), "sdxl", "ViT-H"),
    ("sd-1 full face", ip_adapter(768, full(768, 1280)), "sd-1", "ViT-H"),
]


@pytest.mark.parametrize(("shapes", "base", "encoder"), [case[1:] for case in IP], ids=[case[0] for case in IP])
def test_an_ip_adapter_names_its_base_and_the_encoder_that_it_needs(shapes: Shapes, base: str, encoder: str) -> None:
    verdict = judged(shapes)
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("ok", "ip_adapter", base)
    (need,) = verdict.identity.needs
    assert need.type == "clip_vision"
    assert encoder in need.why


FACES: list[tuple[str, Shapes, str, str]] = [
    ("FaceID", ip_adapter(768, face(768), lora=True), "sd-1", "FaceID"),
    ("FaceID sdxl", ip_adapter(2048, face(2048), lora=True), "sdxl", "FaceID"),
    ("FaceID-plus", ip_adapter(768, face(768, resampler=True), lora=True), "sd-1", "FaceID-plus"),
    ("portrait", ip_adapter(768, face(768)), "sd-1", "FaceID"),
    ("InstantID", ip_adapter(2048, plus(2048, 512, 1280)), "sdxl", "InstantID"),
]


@pytest.mark.parametrize(("shapes", "base", "kind"), [case[1:] for case in FACES], ids=[case[0] for case in FACES])
def test_an_adapter_that_wants_a_face_recogniser_is_an_ip_adapter_that_cannot_be_used(
    shapes: Shapes, base: str, kind: str
) -> None:
    verdict = judged(shapes)
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("unusable", "ip_adapter", base)
    assert kind in verdict.reason
    assert "InsightFace" in verdict.reason


def test_the_ip_adapters_of_transformers_are_told_by_their_trainers() -> None:
    of_xlabs: Shapes = {
        "ip_adapter_proj_model.proj.weight": (16384, 768),
        "ip_adapter_proj_model.norm.weight": (4096,),
    }
    for block in range(19):
        stem = f"double_blocks.{block}.processor.ip_adapter_double_stream_"
        of_xlabs |= {f"{stem}k_proj.weight": (3072, 4096), f"{stem}v_proj.weight": (3072, 4096)}
    verdict = judged(of_xlabs)
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("ok", "ip_adapter", "flux")
    assert "ViT-L" in verdict.identity.needs[0].why
    for width, base in ((3072, "flux"), (2432, "sd-3")):
        shapes: Shapes = {f"ip_adapter.{block}.to_k_ip.weight": (width, 4096) for block in range(38)}
        verdict = judged(shapes | under("image_proj.", plus(2432, 1152, 1280)))
        assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("unusable", "ip_adapter", base)


def test_an_ip_adapter_of_kolors_is_not_one_of_sdxl() -> None:
    verdict = judged(ip_adapter(2048, plus(2048, 1024, 2048)))
    assert (verdict.state, verdict.identity.base) == ("unusable", "kolors")


@pytest.mark.parametrize(
    ("shapes", "base"),
    [
        ({"id_adapter.body.0.weight": (1, 1), "id_adapter_attn_layers.1.id_to_k.weight": (640, 2048)}, "sdxl"),
        ({"pulid_encoder.body.0.weight": (1, 1), "pulid_ca.0.to_q.weight": (2048, 3072)}, "flux"),
        ({"id_encoder.visual_projection_2.weight": (1280, 1024), "lora_weights.x.lora.down.weight": (64, 64)}, "sdxl"),
    ],
)
def test_adapters_of_faces_that_are_no_ip_adapters_are_named(shapes: Shapes, base: str) -> None:
    verdict = judged(shapes)
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("unusable", "other", base)
