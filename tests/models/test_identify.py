"""A model is what its keys and shapes say; near misses are named, and a sidecar decides only what facts leave open."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from invokeai_daemon.errors import AmbiguousModel, UnknownModel, UnreadableModel, UnsafeModel
from invokeai_daemon.models.families import FAMILIES
from invokeai_daemon.models.identify import identify, judge
from invokeai_daemon.models.sidecar import Sidecar
from tests.models.build import header_of, sd_1, write_checkpoint, write_safetensors

Shapes = dict[str, Sequence[int]]

UNET = "model.diffusion_model."
TO_K = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


def says(**words: object) -> Sidecar:
    return Sidecar.model_validate(words)


# SD-1


def test_an_sd_1_checkpoint_is_known_with_its_evidence() -> None:
    identity = identify(header_of(sd_1()))
    assert (identity.type, identity.base, identity.format) == ("main", "sd-1", "checkpoint")
    assert (identity.variant, identity.prediction_type) == ("normal", "epsilon")
    evidence = "\n".join(identity.evidence)
    for fact in ("original Stable Diffusion", "is a convolution", "context width 768", "takes 4 input channels"):
        assert fact in evidence


def test_nine_input_channels_are_an_inpainting_model() -> None:
    identity = identify(header_of(sd_1(channels=9)))
    assert (identity.base, identity.variant) == ("sd-1", "inpaint")


@pytest.mark.parametrize("width", [32, 64, 768, 2000])
def test_any_width_is_sd_1_when_its_own_text_encoder_has_it(width: int) -> None:
    assert identify(header_of(sd_1(context=width, text=width))).base == "sd-1"


def test_the_text_encoder_may_have_the_older_key_names() -> None:
    shapes = sd_1(context=64, text=None)
    shapes["cond_stage_model.transformer.embeddings.token_embedding.weight"] = (49408, 64)
    assert identify(header_of(shapes)).base == "sd-1"


def test_without_a_text_encoder_the_width_must_be_768() -> None:
    assert identify(header_of(sd_1(text=None))).base == "sd-1"
    with pytest.raises(UnknownModel) as caught:
        identify(header_of(sd_1(context=640, text=None)))
    assert caught.value.nearest[0][0] == "sd-1 main"
    assert "context width 640, not 768" in caught.value.nearest[0][1]


def test_averaged_weights_and_merged_leftovers_do_not_change_what_it_is() -> None:
    shapes = sd_1() | {"model_ema.diffusion_modelout2weight": (4, 320, 3, 3), "lora_te_x.lora_down.weight": (4, 768)}
    assert identify(header_of(shapes)).base == "sd-1"


def test_a_file_is_identified_alike_in_either_format(tmp_path: Path) -> None:
    one = identify(write_safetensors(tmp_path / "a.safetensors", sd_1()))
    assert one == identify(write_checkpoint(tmp_path / "a.ckpt", sd_1()))


def test_what_nothing_in_the_file_tells_is_marked_as_assumed() -> None:
    assert identify(header_of(sd_1())).assumed == ("prediction_type",)


@pytest.mark.parametrize(
    ("shapes", "metadata", "sidecar"),
    [
        (sd_1() | {"v_pred": ()}, {}, None),
        (sd_1(), {"modelspec.prediction_type": "v"}, None),
        (sd_1(), {}, says(prediction_type="v_prediction")),
        (sd_1(), {"modelspec.prediction_type": "epsilon"}, says(prediction_type="v_prediction")),
    ],
)
def test_v_prediction_is_found_where_it_is_said(
    shapes: Shapes, metadata: Mapping[str, str], sidecar: Sidecar | None
) -> None:
    identity = identify(header_of(shapes, metadata), sidecar)
    assert identity.prediction_type == "v_prediction"
    assert identity.assumed == ()
    assert any("v_prediction" in fact for fact in identity.evidence)


# What is recognised and not supported yet

OPEN_CLIP = {"cond_stage_model.model.transformer.resblocks.0.ln_1.weight": (1024,)}
LINEAR = {f"{UNET}input_blocks.1.1.proj_in.weight": (320, 320)}
SIZES = {f"{UNET}label_emb.0.0.weight": (1280, 2816)}
KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
OF_FOLDERS = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"

#: What it is: keys and shapes, type, base.
OTHERS: dict[str, tuple[Shapes, str, str]] = {
    "SD-2": (sd_1(1024, text=None) | LINEAR | OPEN_CLIP, "main", "sd-2"),
    "SD-2 depth": (sd_1(1024, channels=5, text=None) | OPEN_CLIP, "main", "sd-2"),
    "SDXL": (
        sd_1(2048, text=None) | SIZES | {"conditioner.embedders.0.transformer.text_model.ln.weight": (768,)},
        "main",
        "sdxl",
    ),
    "SDXL refiner": (
        sd_1(1280, text=None) | SIZES | {"conditioner.embedders.0.model.ln_final.weight": (1280,)},
        "main",
        "sdxl-refiner",
    ),
    "SD-3": (
        {
            f"{UNET}joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536),
            "first_stage_model.decoder.conv_in.weight": (512, 16, 3, 3),
        },
        "main",
        "sd-3",
    ),
    "FLUX": ({"double_blocks.0.img_attn.norm.key_norm.scale": (128,)}, "main", "flux"),
    "FLUX with prefix": ({f"{UNET}double_blocks.0.img_attn.norm.key_norm.scale": (128,)}, "main", "flux"),
    "a LoRA of kohya": (
        {f"{KOHYA}.lora_down.weight": (8, 768), f"{KOHYA}.lora_up.weight": (320, 8), f"{KOHYA}.alpha": ()},
        "lora",
        "sd-1",
    ),
    "a LoRA of diffusers": ({f"unet.{OF_FOLDERS}.lora_A.weight": (8, 2048)}, "lora", "sdxl"),
    "a VAE": ({"first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3)}, "vae", "unknown"),
    "a bare VAE": (
        {"encoder.conv_in.weight": (128, 3, 3, 3), "decoder.conv_in.weight": (512, 4, 3, 3)},
        "vae",
        "unknown",
    ),
    "an embedding of one vector": ({"string_to_param.*": (1, 768)}, "embedding", "sd-1"),
    "an embedding of many vectors": ({"<cat>": (16, 1024)}, "embedding", "sd-2"),
    "an embedding of a bare vector": ({"emb_params": (768,)}, "embedding", "sd-1"),
    "a ControlNet": (
        {
            "control_model.input_blocks.0.0.weight": (320, 4, 3, 3),
            "control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        },
        "controlnet",
        "sd-1",
    ),
    "a ControlNet of diffusers": (
        {"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3), f"{OF_FOLDERS}.weight": (320, 1024)},
        "controlnet",
        "sd-2",
    ),
    "an IP-Adapter": (
        {"image_proj.proj.weight": (3072, 1024), "ip_adapter.1.to_k_ip.weight": (320, 768)},
        "ip_adapter",
        "sd-1",
    ),
    "a T2I-Adapter": ({"adapter.body.0.resnets.0.block1.weight": (320, 320, 3, 3)}, "t2i_adapter", "unknown"),
    "a CLIP text encoder": ({"text_model.embeddings.token_embedding.weight": (49408, 768)}, "clip_embed", "any"),
    "an upscaler": (
        {"conv_first.weight": (64, 3, 3, 3), "conv_last.weight": (3, 64, 3, 3)},
        "spandrel_image_to_image",
        "any",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_kinds_are_recognised_and_said_to_be_unsupported(what: str) -> None:
    shapes, kind, base = OTHERS[what]
    verdict = judge(header_of(shapes))
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("unknown", kind, base)
    assert "not supported yet" in verdict.reason
    assert len(verdict.nearest) == 1
    assert verdict.identity.evidence


def test_no_two_kinds_claim_the_same_file() -> None:
    for shapes, _, _ in [*OTHERS.values(), (sd_1(), "", ""), (sd_1(channels=9), "", "")]:
        judged = judge(header_of(shapes))
        assert "it may be" not in judged.reason


# What is near


@pytest.mark.parametrize(
    ("shapes", "family", "why"),
    [
        (sd_1(channels=8), "sd-1 main", "takes 8 input channels, not 4 or 9"),
        (sd_1(context=64, text=32), "sd-1 main", "has context width 64, and"),
        (sd_1() | {f"{UNET}input_blocks.1.1.proj_in.weight": (320, 320)}, "sd-1 main", "is a linear layer"),
        (sd_1() | {f"{UNET}label_emb.0.0.weight": (1280, 2816)}, "sd-1 main", "size vector"),
        (sd_1(1024, text=None) | {"conditioner.embedders.0.x": (1,)}, "sd-2 main", "text encoders of SDXL"),
    ],
)
def test_a_near_miss_is_named_with_the_fact_that_ruled_it_out(shapes: Shapes, family: str, why: str) -> None:
    verdict = judge(header_of(shapes))
    assert verdict.state == "unknown"
    assert why in dict(verdict.nearest)[family]
    assert family in verdict.reason
    assert verdict.identity.type == "unknown"


def test_the_nearest_comes_first() -> None:
    assert judge(header_of(sd_1(channels=8))).nearest[0][0] == "sd-1 main"


def test_a_part_of_a_diffusers_folder_says_so() -> None:
    shapes = {"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (320, 768), "conv_in.weight": (1,)}
    verdict = judge(header_of(shapes))
    assert verdict.state == "unknown"
    assert "blocks named as in the unet/ of a diffusers folder" in verdict.reason


def test_keys_of_no_known_kind_are_counted() -> None:
    shapes = {f"layer.{number}.weight": (10, 10, 3) for number in range(20)}
    with pytest.raises(UnknownModel, match="20 tensors, none with a known name"):
        identify(header_of(shapes))


def test_an_empty_file_of_weights_is_of_no_known_kind() -> None:
    assert judge(header_of({})).state == "unknown"


def test_hostile_key_names_are_shown_harmlessly() -> None:
    verdict = judge(
        header_of({f"{UNET}input_blocks.0.0.weight": (1, 4), "\x1b[2J\n" + "x" * 500 + ".attn2.to_k": (1,)})
    )
    assert verdict.reason.isprintable()
    assert len(verdict.reason) < 2000


@pytest.mark.parametrize("name", [TO_K, f"{UNET}input_blocks.0.0.weight", f"{UNET}input_blocks.1.1.proj_in.weight"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (1, 2, 3, 4, 5)])
def test_deciding_tensors_of_impossible_shapes_give_a_verdict(name: str, shape: tuple[int, ...]) -> None:
    assert judge(header_of(sd_1() | {name: shape})).state in ("unknown", "ok")


# Sidecars and hints


def test_a_sidecar_decides_between_kinds_that_both_fit() -> None:
    both: Shapes = {"image_proj.proj.weight": (1,), "conv_first.weight": (64, 3, 3, 3)}
    with pytest.raises(AmbiguousModel, match="Say which in a sidecar") as caught:
        identify(header_of(both))
    assert set(caught.value.candidates) == {"ip_adapter", "any spandrel_image_to_image"}
    assert judge(header_of(both), says(type="ip_adapter")).identity.type == "ip_adapter"
    assert judge(header_of(both), hint="ip_adapter").identity.type == "ip_adapter"


def test_a_hint_never_overrules_facts() -> None:
    assert identify(header_of(sd_1()), hint="lora").type == "main"


def test_a_sidecar_overrules_what_only_convention_says() -> None:
    odd = header_of(sd_1(context=640, text=None))
    assert identify(odd, says(type="main", base="sd-1")).base == "sd-1"


def test_a_sidecar_cannot_make_another_layout_true() -> None:
    shapes, _, _ = OTHERS["SDXL"]
    with pytest.raises(UnknownModel, match=r"its sidecar says sd-1 main, but .*SDXL.* Correct the sidecar"):
        identify(header_of(shapes), says(type="main", base="sd-1"))


def test_a_sidecar_of_a_kind_that_is_not_known_says_so() -> None:
    with pytest.raises(UnknownModel, match="not supported yet"):
        identify(header_of(sd_1()), says(type="clip_vision"))


def test_a_sidecar_that_only_names_the_model_changes_nothing() -> None:
    assert identify(header_of(sd_1()), says(name="cat")) == identify(header_of(sd_1()))


def test_a_sidecar_with_another_variant_is_noted_and_the_file_believed() -> None:
    identity = identify(header_of(sd_1()), says(variant="inpaint"))
    assert identity.variant == "normal"
    assert "its sidecar says variant inpaint" in identity.evidence[-1]


# Folders


def folder_at(
    path: Path, *, pipeline: str = "StableDiffusionPipeline", weights: str = "safetensors", **unet: object
) -> Path:
    configs = {
        "model_index.json": {
            "_class_name": pipeline,
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "safety_checker": [None, None],
        },
        "unet/config.json": {"cross_attention_dim": 768, "in_channels": 4} | unet,
        "vae/config.json": {"latent_channels": 4},
        "text_encoder/config.json": {"hidden_size": unet.get("cross_attention_dim", 768)},
        "scheduler/scheduler_config.json": {"prediction_type": "epsilon"},
    }
    for name, content in configs.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(json.dumps(content))
    for part in ("unet", "vae", "text_encoder"):
        (path / part / f"model.{weights}").write_bytes(b"")
    return path


def test_a_diffusers_folder_of_sd_1_is_known(tmp_path: Path) -> None:
    identity = identify(folder_at(tmp_path / "cat"))
    assert (identity.type, identity.base, identity.format) == ("main", "sd-1", "diffusers")
    assert (identity.variant, identity.prediction_type, identity.assumed) == ("normal", "epsilon", ())


def test_an_inpainting_folder_is_known(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "cat", pipeline="StableDiffusionInpaintPipeline", in_channels=9)
    assert identify(folder).variant == "inpaint"


def test_a_folder_of_another_base_is_recognised(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "cat", cross_attention_dim=1024, use_linear_projection=True)
    verdict = judge(folder)
    assert (verdict.state, verdict.identity.base, verdict.identity.format) == ("unknown", "sd-2", "diffusers")


def test_a_folder_of_another_pipeline_is_not_taken_for_an_ordinary_model(tmp_path: Path) -> None:
    verdict = judge(folder_at(tmp_path / "cat", pipeline="StableDiffusionPanoramaPipeline"))
    assert verdict.state == "unknown"
    assert "StableDiffusionPanoramaPipeline" in verdict.reason


def test_a_folder_whose_weights_are_pickles_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match="its weights are pickles"):
        identify(folder_at(tmp_path / "cat", weights="bin"))


def test_a_folder_that_asks_for_code_of_other_libraries_is_unsafe(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "cat")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"feature_extractor": ["os", "system"]}))
    with pytest.raises(UnsafeModel, match=r"asks for os\.system") as caught:
        identify(folder)
    assert caught.value.global_name == "os.system"


@pytest.mark.parametrize(
    "name", ["model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json"]
)
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_folder_with_a_broken_config_is_rejected(tmp_path: Path, name: str, content: bytes) -> None:
    folder = folder_at(tmp_path / "cat")
    (folder / name).write_bytes(content)
    verdict = judge(folder)
    assert verdict.state == "rejected"
    assert name in verdict.reason


def test_a_folder_that_is_no_model_is_rejected(tmp_path: Path) -> None:
    assert "without model_index.json" in judge(tmp_path).reason


# The table


def test_every_supported_family_says_what_a_conversion_needs() -> None:
    for family in FAMILIES:
        assert family.name and family.marks
        if family.supported and family.type == "main":
            assert family.variants and family.prediction_type


def test_a_verdict_never_raises_for_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"<html>")
    verdict = judge(tmp_path / "x.ckpt")
    assert (verdict.state, verdict.identity.type) == ("rejected", "unknown")
    assert "a web page" in verdict.reason
