"""A folder is what its configs say, or what its weights show; what is missing is named with what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.errors import UnknownModel, UnsafeModel
from invokeai_daemon.models.identify import identify, judge
from invokeai_daemon.models.sidecar import Sidecar
from tests.models.build import write_checkpoint
from tests.models.identify import originals
from tests.models.identify.build import folder_at, write_folder

Shapes = Mapping[str, Sequence[int]]

SD_2 = {"cross_attention_dim": 1024, "use_linear_projection": True}
SDXL = {"cross_attention_dim": 2048, "addition_embed_type": "text_time"}
SECOND = {"transformer_2": ["diffusers", "WanTransformer3DModel"]}
KLEIN = {"joint_attention_dim": 7680}
ONE: dict[str, Sequence[int]] = {"x": (1,)}


# Stable Diffusion


def test_a_diffusers_folder_of_sd_1_is_known(tmp_path: Path) -> None:
    identity = identify(folder_at(tmp_path / "cat"))
    assert (identity.type, identity.base, identity.format) == ("main", "sd-1", "diffusers")
    assert (identity.variant, identity.prediction_type, identity.assumed) == ("normal", "epsilon", ())


def test_any_width_is_sd_1_when_its_own_text_encoder_has_it(tmp_path: Path) -> None:
    assert identify(folder_at(tmp_path / "cat", cross_attention_dim=64)).base == "sd-1"


@pytest.mark.parametrize(
    ("pipeline", "unet", "base", "variant"),
    [
        ("StableDiffusionInpaintPipeline", {"in_channels": 9}, "sd-1", "inpaint"),
        ("StableDiffusionInstructPix2PixPipeline", {"in_channels": 8}, "sd-1", "edit"),
        ("StableDiffusionPipeline", SD_2, "sd-2", "normal"),
        ("StableDiffusionDepth2ImgPipeline", SD_2 | {"in_channels": 5}, "sd-2", "depth"),
        ("StableDiffusionXLPipeline", SDXL, "sdxl", "normal"),
        ("StableDiffusionXLInpaintPipeline", SDXL | {"in_channels": 9}, "sdxl", "inpaint"),
        ("StableDiffusionXLImg2ImgPipeline", SDXL | {"cross_attention_dim": 1280}, "sdxl-refiner", "normal"),
    ],
)  # fmt: skip
def test_the_unet_tells_base_and_variant(
    tmp_path: Path, pipeline: str, unet: dict[str, Any], base: str, variant: str
) -> None:
    identity = identify(folder_at(tmp_path / "cat", pipeline=pipeline, **unet))
    assert (identity.base, identity.variant) == (base, variant)


@pytest.mark.parametrize(
    ("scheduler", "prediction", "assumed"),
    [({"prediction_type": "v_prediction"}, "v_prediction", ()), ({}, "epsilon", ("prediction_type",))],
)
def test_the_scheduler_tells_what_is_predicted(
    tmp_path: Path, scheduler: dict[str, str], prediction: str, assumed: tuple[str, ...]
) -> None:
    folder = folder_at(tmp_path / "cat")
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
    identity = identify(folder)
    assert (identity.prediction_type, identity.assumed) == (prediction, assumed)


def test_a_folder_of_another_pipeline_is_not_taken_for_an_ordinary_model(tmp_path: Path) -> None:
    verdict = judge(folder_at(tmp_path / "cat", pipeline="StableDiffusionPanoramaPipeline"))
    assert (verdict.state, verdict.identity.base) == ("unusable", "sd-1")
    assert "StableDiffusionPanoramaPipeline" in verdict.reason


def test_a_unet_that_takes_the_guidance_is_not_usable(tmp_path: Path) -> None:
    verdict = judge(folder_at(tmp_path / "cat", time_cond_proj_dim=256))
    assert verdict.state == "unusable"
    assert "time_cond_proj_dim" in verdict.reason


def test_a_width_that_nobody_has_is_unknown(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "cat", cross_attention_dim=640)
    (folder / "text_encoder/config.json").write_text('{"hidden_size": 768}')
    with pytest.raises(UnknownModel, match="cross_attention_dim 640"):
        identify(folder)


# Other pipelines

OTHERS = [
    ("StableDiffusion3Pipeline", {"num_attention_heads": 24}, {}, ("ok", "sd-3", "medium")),
    ("StableDiffusion3Pipeline", {"num_attention_heads": 38}, {}, ("ok", "sd-3", "large")),
    ("FluxPipeline", {"guidance_embeds": True, "in_channels": 64}, {}, ("ok", "flux", "dev")),
    ("FluxPipeline", {"guidance_embeds": False, "in_channels": 64}, {}, ("ok", "flux", "schnell")),
    ("FluxFillPipeline", {"guidance_embeds": True, "in_channels": 384}, {}, ("ok", "flux", "dev_fill")),
    ("FluxKontextPipeline", {"guidance_embeds": True, "in_channels": 64}, {}, ("ok", "flux", "dev")),
    ("FluxControlPipeline", {"guidance_embeds": True, "in_channels": 128}, {}, ("unusable", "flux", "dev")),
    ("Flux2Pipeline", {"joint_attention_dim": 15360}, {}, ("unusable", "flux2", "dev")),
    ("Flux2KleinPipeline", KLEIN, {}, ("unusable", "flux2", "klein_4b")),
    ("Flux2KleinPipeline", KLEIN, {"is_distilled": False}, ("unusable", "flux2", "klein_4b_base")),
    ("CogView4Pipeline", {}, {}, ("unusable", "cogview4", None)),
    ("ZImagePipeline", {}, {}, ("unusable", "z-image", None)),
    ("QwenImagePipeline", {}, {}, ("unusable", "qwen-image", "generate")),
    ("QwenImageEditPlusPipeline", {}, {}, ("unusable", "qwen-image", "edit")),
    ("ChromaPipeline", {}, {}, ("unusable", "chroma", None)),
    ("Lumina2Pipeline", {}, {}, ("unusable", "lumina2", None)),
    ("Lumina2Text2ImgPipeline", {}, {}, ("unusable", "lumina2", None)),
    ("AuraFlowPipeline", {}, {}, ("unusable", "auraflow", None)),
    ("PixArtAlphaPipeline", {}, {}, ("unusable", "pixart", None)),
    ("PixArtSigmaPipeline", {}, {}, ("unusable", "pixart", None)),
    ("SanaPipeline", {}, {}, ("unusable", "sana", None)),
    ("HunyuanDiTPipeline", {}, {}, ("unusable", "hunyuan-dit", None)),
    ("HunyuanVideoPipeline", {}, {}, ("unusable", "hunyuan-video", None)),
    ("StableCascadeCombinedPipeline", {}, {}, ("unusable", "stable-cascade", None)),
    ("StableCascadePriorPipeline", {}, {}, ("unusable", "stable-cascade", None)),
    ("KolorsPipeline", {}, {}, ("unusable", "kolors", None)),
    ("HiDreamImagePipeline", {}, {}, ("unusable", "hidream", None)),
    ("Krea2Pipeline", {}, {}, ("unusable", "krea-2", None)),
    ("ErnieImagePipeline", {}, {}, ("unusable", "ernie-image", None)),
    ("Ideogram4Pipeline", {}, {}, ("unusable", "ideogram-4", None)),
    ("WanPipeline", {"in_channels": 48}, {}, ("unusable", "wan", "ti2v_5b")),
    ("WanPipeline", {"in_channels": 16}, SECOND, ("unusable", "wan", "t2v_a14b")),
    ("WanImageToVideoPipeline", {"in_channels": 36}, SECOND, ("unusable", "wan", "i2v_a14b")),
    ("WanPipeline", {"in_channels": 16}, {}, ("unusable", "wan", None)),
]  # fmt: skip


@pytest.mark.parametrize(("pipeline", "config", "index", "expected"), OTHERS)
def test_the_class_of_a_pipeline_tells_its_family(
    tmp_path: Path, pipeline: str, config: dict[str, Any], index: dict[str, Any], expected: tuple[str, str, str | None]
) -> None:
    index = {"transformer": ["diffusers", "X"], "scheduler": ["diffusers", "EulerDiscreteScheduler"], **index}
    configs: dict[str, Any] = {"model_index.json": {"_class_name": pipeline, **index}, "scheduler/x.json": {}}
    weights: dict[str, Shapes] = {}
    for part in {"transformer", "transformer_2"} & index.keys():
        configs[f"{part}/config.json"] = config
        weights |= {f"{part}/model-0000{number}-of-00002.safetensors": ONE for number in (1, 2)}
    verdict = judge(write_folder(tmp_path / "cat", configs, weights))
    identity = verdict.identity
    assert (verdict.state, identity.base, identity.variant) == expected
    assert (identity.type, identity.format) == ("main", "diffusers")


def test_a_pipeline_that_nobody_knows_is_unknown_and_named(tmp_path: Path) -> None:
    configs = {"model_index.json": {"_class_name": "DiffusionGemmaPipeline", "model": ["transformers", "X"]}}
    verdict = judge(write_folder(tmp_path / "cat", configs, {}))
    assert verdict.state == "unknown"
    assert "DiffusionGemmaPipeline" in verdict.reason


def test_a_sidecar_names_a_pipeline_that_nobody_knows(tmp_path: Path) -> None:
    configs = {"model_index.json": {"_class_name": "StrangePipeline", "model": ["transformers", "X"]}}
    folder = write_folder(tmp_path / "cat", configs, {})
    verdict = judge(folder, Sidecar.model_validate({"type": "main", "base": "kandinsky"}))
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("unusable", "main", "kandinsky")
    assert "StrangePipeline" in verdict.reason


def test_weights_for_onnx_are_named(tmp_path: Path) -> None:
    configs = {
        "model_index.json": {"_class_name": "OnnxStableDiffusionPipeline", "unet": ["diffusers", "OnnxRuntimeModel"]}
    }
    verdict = judge(write_folder(tmp_path / "cat", configs, {}))
    assert (verdict.state, verdict.identity.type, verdict.identity.format) == ("unusable", "onnx", "onnx")


@pytest.mark.parametrize(
    ("pipeline", "scheduler", "prediction"),
    [
        ("FluxPipeline", {}, "flow"),
        ("QwenImagePipeline", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "flow"),
        ("SanaPipeline", {"_class_name": "DPMSolverMultistepScheduler", "prediction_type": "flow_prediction"}, "flow"),
        ("PixArtAlphaPipeline", {"prediction_type": "epsilon"}, "epsilon"),
        ("HunyuanDiTPipeline", {"prediction_type": "v_prediction"}, "v_prediction"),
        ("KolorsPipeline", {}, None),
    ],
)
def test_the_scheduler_of_any_pipeline_tells_what_is_predicted(
    tmp_path: Path, pipeline: str, scheduler: dict[str, str], prediction: str | None
) -> None:
    configs = {
        "model_index.json": {"_class_name": pipeline, "transformer": ["diffusers", "X"]},
        "transformer/config.json": {},
        "scheduler/scheduler_config.json": scheduler,
    }
    verdict = judge(write_folder(tmp_path / "cat", configs, {"transformer/model.safetensors": ONE}))
    assert verdict.identity.prediction_type == prediction


@pytest.mark.parametrize(
    ("pipeline", "index", "scheduler", "variant"),
    [
        ("ZImagePipeline", {}, {"shift": 3.0}, "turbo"),
        ("ZImagePipeline", {}, {"shift": 6.0}, "zbase"),
        ("ZImagePipeline", {}, {}, None),
        ("Krea2Pipeline", {"is_distilled": True}, {}, "krea2_turbo"),
        ("Krea2Pipeline", {"is_distilled": False}, {}, "krea2_base"),
        ("Krea2Pipeline", {}, {}, None),
    ],
)
def test_twins_are_told_apart_by_how_they_are_sampled(
    tmp_path: Path, pipeline: str, index: dict[str, Any], scheduler: dict[str, Any], variant: str | None
) -> None:
    configs = {
        "model_index.json": {"_class_name": pipeline, "transformer": ["diffusers", "X"]} | index,
        "transformer/config.json": {},
        "scheduler/scheduler_config.json": scheduler,
    }
    identity = judge(write_folder(tmp_path / "cat", configs, {"transformer/model.safetensors": ONE})).identity
    assert (identity.variant, identity.assumed) == (variant, ())


@pytest.mark.parametrize("pipeline", ["DDPMPipeline", "AudioLDMPipeline"])
def test_a_unet_that_reads_no_texts_is_not_taken_for_stable_diffusion(tmp_path: Path, pipeline: str) -> None:
    configs = {
        "model_index.json": {"_class_name": pipeline, "unet": ["diffusers", "UNet2DModel"]},
        "unet/config.json": {"in_channels": 3},
    }
    verdict = judge(write_folder(tmp_path / "cat", configs, {"unet/model.safetensors": ONE}))
    assert (verdict.state, verdict.identity.base) == ("unknown", "unknown")


# What is missing


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "cat")
    for path in (folder / "vae").iterdir():
        path.unlink()
    (folder / "vae").rmdir()
    verdict = judge(folder)
    assert (verdict.state, verdict.identity.base) == ("unusable", "sd-1")
    assert "its part vae is missing. Copy the missing part into the folder" in verdict.reason


def test_a_missing_unet_leaves_the_base_open(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "cat")
    (folder / "unet/config.json").unlink()
    verdict = judge(folder)
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("unusable", "main", "unknown")
    assert "unet/config.json is missing" in verdict.reason


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "cat")
    whole = folder / "unet/model.safetensors"
    whole.rename(folder / "unet/diffusion_pytorch_model-00001-of-00003.safetensors")
    verdict = judge(folder)
    assert verdict.state == "unusable"
    assert "its part unet: diffusion_pytorch_model-00002-of-00003.safetensors and 1 more is missing" in verdict.reason


def test_parts_that_may_be_left_out_are_not_missed(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "cat")
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert judge(folder).state == "ok"


def test_weights_that_are_only_there_as_a_variant_are_enough(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "cat")
    for path in list(folder.rglob("model.safetensors")):
        path.rename(path.with_name("model.fp16.safetensors"))
    assert judge(folder).state == "ok"


def test_weights_that_are_pickles_are_known_but_not_usable(tmp_path: Path) -> None:
    verdict = judge(folder_at(tmp_path / "cat", weights="bin"))
    assert (verdict.state, verdict.identity.base) == ("unusable", "sd-1")
    assert "its weights are pickles. Save it again with safe_serialization=True" in verdict.reason


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


ODD: list[Any] = [None, 7, "x", [], {}, [1], True, 1e400, {"a": 1}]


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("key", ["_class_name", "unet", "cross_attention_dim", "in_channels", "prediction_type"])
def test_values_that_no_config_has_give_a_verdict(tmp_path: Path, key: str, odd: Any) -> None:
    folder = folder_at(tmp_path / "cat")
    name = "model_index.json" if key in ("_class_name", "unet") else "unet/config.json"
    name = "scheduler/scheduler_config.json" if key == "prediction_type" else name
    content = json.loads((folder / name).read_text()) | {key: odd}
    (folder / name).write_text(json.dumps(content))
    assert judge(folder).state in ("ok", "unusable", "unknown", "rejected")


def test_a_folder_that_is_no_model_is_rejected_with_what_to_do(tmp_path: Path) -> None:
    verdict = judge(tmp_path)
    assert verdict.state == "rejected"
    assert "Drop the files in it one by one" in verdict.reason


def test_a_tokenizer_alone_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert "a tokenizer alone" in judge(tmp_path).reason


# Single parts

KOHYA = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
LORA: Shapes = {f"{KOHYA}.lora_A.weight": (8, 768), f"{KOHYA}.lora_B.weight": (320, 8)}
VAE: Shapes = {
    "encoder.conv_in.weight": (128, 3, 3, 3),
    "encoder.conv_out.weight": (8, 512, 3, 3),
    "decoder.conv_in.weight": (512, 4, 3, 3),
    "decoder.conv_out.weight": (3, 128, 3, 3),
    "encoder.down_blocks.0.resnets.0.conv1.weight": (128, 128, 3, 3),
    "decoder.up_blocks.0.resnets.0.conv1.weight": (512, 512, 3, 3),
    "quant_conv.weight": (8, 8, 1, 1),
    "post_quant_conv.weight": (4, 4, 1, 1),
}


@pytest.mark.parametrize(
    ("config", "weights", "type_", "base", "variant"),
    [
        ({"_class_name": "AutoencoderKL", "scaling_factor": 0.13025}, VAE, "vae", "sdxl", None),
        ({"_class_name": "AutoencoderKL", "scaling_factor": 0.18215}, VAE, "vae", "sd-1", None),
        ({"_class_name": "AutoencoderKL", "scaling_factor": 1.5305}, ONE, "vae", "sd-3", None),
        ({"_class_name": "AutoencoderKLFlux2"}, ONE, "vae", "flux2", None),
        ({"_class_name": "ControlNetModel", "cross_attention_dim": 768}, ONE, "controlnet", "sd-1", None),
        ({"_class_name": "ControlNetModel", "cross_attention_dim": 2048}, ONE, "controlnet", "sdxl", None),
        ({"_class_name": "FluxControlNetModel"}, ONE, "controlnet", "flux", None),
        ({"_class_name": "T2IAdapter", "adapter_type": "full_adapter_xl"}, ONE, "t2i_adapter", "sdxl", None),
        ({"architectures": ["CLIPTextModel"], "hidden_size": 768}, ONE, "clip_embed", "any", "large"),
        ({"architectures": ["CLIPTextModelWithProjection"], "hidden_size": 1280}, ONE, "clip_embed", "any", "gigantic"),
        ({"architectures": ["CLIPVisionModelWithProjection"]}, ONE, "clip_vision", "any", None),
        ({"model_type": "clip_vision_model"}, ONE, "clip_vision", "any", None),
        ({"architectures": ["T5EncoderModel"]}, ONE, "t5_encoder", "any", None),
        ({"architectures": ["Qwen3ForCausalLM"], "hidden_size": 2560}, ONE, "qwen3_encoder", "any", "qwen3_4b"),
        ({"architectures": ["LlamaForCausalLM"]}, ONE, "text_llm", "any", None),
    ],
)  # fmt: skip
def test_a_part_of_a_pipeline_is_what_its_config_says(
    tmp_path: Path, config: dict[str, Any], weights: Shapes, type_: str, base: str, variant: str | None
) -> None:
    folder = write_folder(tmp_path / "cat", {"config.json": config}, {"model.safetensors": weights})
    verdict = judge(folder)
    identity = verdict.identity
    assert (identity.type, identity.base, identity.variant) == (type_, base, variant)
    assert any("config.json names a " in fact for fact in identity.evidence)
    assert identity.format in ("diffusers", "t5_encoder", "qwen3_encoder")


def test_a_part_whose_shards_are_missing_says_which(tmp_path: Path) -> None:
    config = {"architectures": ["T5EncoderModel"]}
    folder = write_folder(tmp_path / "t5", {"config.json": config}, {"model-00002-of-00002.safetensors": ONE})
    verdict = judge(folder)
    assert (verdict.state, verdict.identity.type) == ("unusable", "t5_encoder")
    assert "model-00001-of-00002.safetensors is missing" in verdict.reason


def test_a_transformer_in_shards_is_known_even_when_one_is_missing(tmp_path: Path) -> None:
    names = sorted(originals.flux())
    shards = [{name: originals.flux()[name] for name in names[start::2]} for start in (0, 1)]
    files = {f"diffusion_pytorch_model-0000{number}-of-00002.safetensors": shards[number - 1] for number in (1, 2)}
    config = {"config.json": {"_class_name": "FluxTransformer2DModel"}}
    identity = identify(write_folder(tmp_path / "whole", config, files))
    assert (identity.type, identity.base, identity.format) == ("main", "flux", "diffusers")
    assert [need.type for need in identity.needs] == ["clip_embed", "t5_encoder", "vae"]
    del files["diffusion_pytorch_model-00002-of-00002.safetensors"]
    verdict = judge(write_folder(tmp_path / "half", config, files))
    assert verdict.state == "unusable"
    assert "diffusion_pytorch_model-00002-of-00002.safetensors is missing" in verdict.reason


def test_an_encoder_and_its_tokenizer_in_a_folder_are_the_encoder(tmp_path: Path) -> None:
    configs = {"text_encoder_2/config.json": {"architectures": ["T5EncoderModel"]}, "tokenizer_2/spiece.json": {}}
    names = originals.t5(2)
    whole = write_folder(tmp_path / "t5", configs, {"text_encoder_2/model.safetensors": names})
    identity = identify(whole)
    assert (identity.type, identity.base, identity.format) == ("t5_encoder", "any", "t5_encoder")
    names |= {name.removesuffix("weight") + "SCB": (4096,) for name in names if "SelfAttention" in name}
    eight_bits = write_folder(tmp_path / "int8", configs, {"text_encoder_2/model.safetensors": names})
    assert judge(eight_bits).identity.format == "bnb_quantized_int8b"


@pytest.mark.parametrize("architecture", ["WhisperForConditionalGeneration", "GPTNeoXForCausalLM", "BertModel"])
def test_models_of_language_and_speech_cannot_be_used(tmp_path: Path, architecture: str) -> None:
    configs = {"config.json": {"architectures": [architecture]}, "tokenizer.json": {}}
    verdict = judge(write_folder(tmp_path / "cat", configs, {"model.safetensors": ONE}))
    assert verdict.state in ("unknown", "unusable")
    assert verdict.identity.type == ("text_llm" if architecture.endswith("ForCausalLM") else "unknown")
    assert str(tmp_path / "cat") in verdict.reason


def test_a_transformer_that_says_in_a_file_of_its_own_how_it_was_quantised_is_not_usable(tmp_path: Path) -> None:
    configs = {
        "model_index.json": {"_class_name": "FluxPipeline", "transformer": ["diffusers", "X"]},
        "transformer/config.json": {"guidance_embeds": True},
        "transformer/quantization_config.json": {"quant_method": "sdnq"},
    }
    verdict = judge(write_folder(tmp_path / "flux", configs, {"transformer/model.safetensors": ONE}))
    assert (verdict.state, verdict.identity.format) == ("unusable", "sdnq_quantized")
    assert "transformer/quantization_config.json says" in verdict.reason


@pytest.mark.parametrize(("method", "form"), [("bitsandbytes", "diffusers"), ("sdnq", "sdnq_quantized")])
def test_a_quantised_transformer_is_not_usable(tmp_path: Path, method: str, form: str) -> None:
    configs = {
        "model_index.json": {"_class_name": "FluxPipeline", "transformer": ["diffusers", "X"]},
        "transformer/config.json": {"guidance_embeds": True, "quantization_config": {"quant_method": method}},
    }
    verdict = judge(write_folder(tmp_path / "flux", configs, {"transformer/model.safetensors": ONE}))
    assert (verdict.state, verdict.identity.base, verdict.identity.format) == ("unusable", "flux", form)
    assert f"quantised by {method}" in verdict.reason


def test_a_lora_in_a_folder_is_a_lora_of_the_format_of_diffusers(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "ink", {}, {"pytorch_lora_weights.safetensors": LORA})
    identity = identify(folder)
    assert (identity.type, identity.base, identity.format) == ("lora", "sd-1", "diffusers")
    peft = write_folder(tmp_path / "peft", {"adapter_config.json": {}}, {"adapter_model.safetensors": LORA})
    assert identify(peft).base == "sd-1"


def test_an_embedding_in_a_folder_is_an_embedding_folder(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    write_checkpoint(tmp_path / "cat/learned_embeds.bin", {"<cat>": (1, 768)})
    identity = identify(tmp_path / "cat")
    assert (identity.type, identity.base, identity.format) == ("embedding", "sd-1", "embedding_folder")


# Sidecars


def test_a_sidecar_beside_a_folder_wins_and_the_contradiction_is_told(tmp_path: Path) -> None:
    identity = identify(folder_at(tmp_path / "cat"), Sidecar.model_validate({"prediction_type": "v_prediction"}))
    assert identity.prediction_type == "v_prediction"
    assert "a file beside it says prediction_type v_prediction, but the folder says epsilon" in identity.evidence
