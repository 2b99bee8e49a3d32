"""What no tensor tells, as the published models have it: schedulers, sizes, scales, tokenizers, which pipeline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.errors import ModelError
from invokeai_daemon.models.convert import Conversion, ConvertOptions, is_convertible, plan_conversion
from invokeai_daemon.models.header import read_header
from tests.models.convert import models
from tests.models.convert.models import ALONE, MODELS, Small


def planned(small: Small, folder: Path, more: dict[str, Any] | None = None) -> Conversion:
    source = models.write(folder / "small.safetensors", {**small.tensors(), **(more or {})})
    return plan_conversion(read_header(source), small.identity)


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        ("sd-1", "StableDiffusionPipeline"),
        ("sd-1 inpaint", "StableDiffusionInpaintPipeline"),
        ("sd-1 edit", "StableDiffusionInstructPix2PixPipeline"),
        ("sd-2 768", "StableDiffusionPipeline"),
        ("sd-2 inpaint", "StableDiffusionInpaintPipeline"),
        ("sd-2 depth", "StableDiffusionDepth2ImgPipeline"),
        ("sdxl", "StableDiffusionXLPipeline"),
        ("sdxl inpaint", "StableDiffusionXLInpaintPipeline"),
        ("sdxl edit", "StableDiffusionXLInstructPix2PixPipeline"),
        ("sdxl-refiner", "StableDiffusionXLImg2ImgPipeline"),
    ],
)
def test_base_and_variant_name_the_pipeline(tmp_path: Path, name: str, pipeline: str) -> None:
    assert planned(MODELS[name], tmp_path).configs["model_index.json"]["_class_name"] == pipeline


def test_a_variant_that_a_base_has_not_is_refused(tmp_path: Path) -> None:
    strange = replace(MODELS["sd-1"], identity=replace(MODELS["sd-1"].identity, variant="depth"))
    with pytest.raises(ModelError, match="no conversion of the variant depth of sd-1"):
        planned(strange, tmp_path)


def test_sd_2_that_predicts_v_is_large_and_upcasts_its_attention(tmp_path: Path) -> None:
    small, large = planned(MODELS["sd-2 512"], tmp_path), planned(MODELS["sd-2 768"], tmp_path)
    words = ("sample_size", "upcast_attention", "use_linear_projection", "attention_head_dim")
    assert [small.configs["unet/config.json"].get(word) for word in words] == [64, None, True, [1, 2]]
    assert [large.configs["unet/config.json"].get(word) for word in words] == [96, True, True, [1, 2]]
    assert large.configs["scheduler/scheduler_config.json"]["prediction_type"] == "v_prediction"
    assert large.configs["text_encoder/config.json"]["hidden_act"] == "gelu"


def test_the_depth_estimator_of_sd_2_is_left_out_and_it_is_said(tmp_path: Path) -> None:
    name = "depth_model.model.pretrained.model.cls_token"
    conversion = planned(MODELS["sd-2 depth"], tmp_path, {name: ("F16", (1, 1, 8))})
    said = "its depth estimator, which is not converted: depth maps must be given (depth_model.…) left out"
    assert conversion.notes == (f"1 tensor of {said}",)
    index = conversion.configs["model_index.json"]
    assert index["depth_estimator"] == index["feature_extractor"] == [None, None]


def test_the_depth_estimator_of_another_copy_is_taken_over(tmp_path: Path) -> None:
    whole = tmp_path / "stable-diffusion-2-depth"
    for name, file in (
        ("depth_estimator/config.json", b"{}"),
        ("depth_estimator/model.safetensors", b"weights"),
        ("feature_extractor/preprocessor_config.json", b"{}"),
    ):
        (whole / name).parent.mkdir(parents=True, exist_ok=True)
        (whole / name).write_bytes(file)
    parts = {name: whole / name for name in ("depth_estimator", "feature_extractor")}
    source = models.write(tmp_path / "small.safetensors", MODELS["sd-2 depth"].tensors())
    options = ConvertOptions(parts=parts)
    conversion = plan_conversion(read_header(source), MODELS["sd-2 depth"].identity, options)
    conversion.execute(tmp_path / "folder")
    assert (tmp_path / "folder/depth_estimator/model.safetensors").read_bytes() == b"weights"
    index = conversion.configs["model_index.json"]
    assert index["feature_extractor"] == ["transformers", "DPTImageProcessor"]


def test_only_the_layers_that_are_read_of_sd_2_s_text_encoder_are_kept(tmp_path: Path) -> None:
    clip = replace(models.CLIP_2, layers=24, vocabulary=9)
    small = replace(MODELS["sd-2 512"], parts={**MODELS["sd-2 512"].parts, "text_encoder": clip})
    conversion = planned(small, tmp_path)
    assert conversion.configs["text_encoder/config.json"]["num_hidden_layers"] == 23
    assert conversion.notes == ()


def test_sdxl_has_its_own_scale_sizes_and_scheduler(tmp_path: Path) -> None:
    configs = planned(MODELS["sdxl"], tmp_path).configs
    vae, unet = configs["vae/config.json"], configs["unet/config.json"]
    assert (vae["scaling_factor"], vae["force_upcast"], unet["sample_size"]) == (0.13025, True, 128)
    assert (unet["addition_embed_type"], unet["addition_time_embed_dim"]) == ("text_time", 256)
    assert unet["transformer_layers_per_block"] == [1, 2, 3]
    scheduler = configs["scheduler/scheduler_config.json"]
    assert (scheduler["_class_name"], scheduler["timestep_spacing"]) == ("EulerDiscreteScheduler", "leading")
    assert configs["model_index.json"]["force_zeros_for_empty_prompt"] is True
    assert configs["model_index.json"]["scheduler"] == ["diffusers", "EulerDiscreteScheduler"]


def test_the_refiner_asks_for_an_aesthetic_score_and_has_one_text_encoder(tmp_path: Path) -> None:
    configs = planned(MODELS["sdxl-refiner"], tmp_path).configs
    index = configs["model_index.json"]
    assert index["requires_aesthetics_score"] is True
    assert index["text_encoder"] == index["tokenizer"] == [None, None]
    assert configs["unet/config.json"]["transformer_layers_per_block"] == 2


@pytest.mark.parametrize("name", ["sd-1", "sd-2 768", "sdxl"])
def test_noise_that_ends_in_nothing_but_noise_is_told_by_its_marker(tmp_path: Path, name: str) -> None:
    import diffusers

    small = MODELS[name]
    conversion = planned(small, tmp_path, {"ztsnr": ("F32", ()), "v_pred": ("F32", ())})
    scheduler = dict(conversion.configs["scheduler/scheduler_config.json"])
    assert (scheduler["rescale_betas_zero_snr"], scheduler["timestep_spacing"]) == (True, "trailing")
    made = getattr(diffusers, scheduler["_class_name"]).from_config(scheduler)
    assert made.config.rescale_betas_zero_snr
    assert "rescale_betas_zero_snr" not in planned(small, tmp_path).configs["scheduler/scheduler_config.json"]


def test_the_open_clip_text_encoders_fill_prompts_up_with_exclamation_marks(tmp_path: Path) -> None:
    planned(MODELS["sdxl"], tmp_path).execute(tmp_path / "folder")
    pads = [
        json.loads((tmp_path / "folder" / name / "tokenizer_config.json").read_text())["pad_token"]
        for name in ("tokenizer", "tokenizer_2")
    ]
    assert pads == ["<|endoftext|>", "!"]


@pytest.mark.parametrize(
    "stranger", ["task_embedding", "control_type_proj.weight", "lora_controlnet", "spatial_ch_projs.weight"]
)
def test_what_only_looks_like_a_controlnet_is_not_converted(tmp_path: Path, stranger: str) -> None:
    small = ALONE["diffusers controlnet"]
    source = models.write(tmp_path / "a.safetensors", {**small.tensors(), stranger: ("F16", (1,))})
    assert not is_convertible(read_header(source), small.identity)
    assert is_convertible(read_header(models.write(source, small.tensors())), small.identity)


def test_the_way_in_of_a_controlnet_is_read_from_its_shapes(tmp_path: Path) -> None:
    config = planned(ALONE["controlnet"], tmp_path).configs["config.json"]
    assert config["conditioning_embedding_out_channels"] == [4, 8, 12, 16]
    assert config["conditioning_channels"] == 3
