"""Models of each family with random weights, far smaller than the demo model, as diffusers folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from invokeai_daemon.job.plan import Image, ModelRef
from invokeai_daemon.models.tokenizer import write_clip_tokenizer

TEXT_WIDTH = 32
#: Widths of SDXL's second text encoder, of its pooled text, and of one of the numbers beside it.
LARGE_WIDTH, POOLED, NUMBER_WIDTH = 48, 40, 16
#: Of the attentions of each depth, so that a head has 16 channels: with fewer than any real model has, torch sums up in
#: another order where two threads share more rows.
HEADS = (2, 4)
#: The noise that all these families were trained with.
NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
#: What a scheduler's config says of a model whose noise ends in nothing but noise.
ZERO_SNR: dict[str, Any] = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def build_model(folder: Path, seed: int = 1) -> ModelRef:
    """Write the folder and say how a plan names it. Everything that is the layout's is as in a real model."""
    torch.manual_seed(seed)
    pipeline = StableDiffusionPipeline(
        vae=new_vae(),
        text_encoder=new_text_encoder(),
        tokenizer=clip_tokenizer(folder / "tokenizer"),
        unet=new_unet(),
        scheduler=PNDMScheduler(**NOISE, skip_prk_steps=True, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    # Stable Diffusion's own config says this too, for the schedulers that would clip.
    pipeline.scheduler.register_to_config(clip_sample=False)
    pipeline.save_pretrained(folder)
    return ModelRef(name="tiny", path=str(folder), base="sd-1", hash=f"blake3:{seed}")


def build_sd_2(folder: Path, predicts: str, **noise: Any) -> ModelRef:
    """Stable Diffusion 2, which predicts `epsilon` (512 pixels) or `v_prediction` (768)."""
    torch.manual_seed(2)
    StableDiffusionPipeline(
        vae=new_vae(),
        text_encoder=new_text_encoder(hidden_act="gelu"),
        tokenizer=clip_tokenizer(folder / "tokenizer", padding="!"),
        unet=new_unet(use_linear_projection=True, attention_head_dim=HEADS),
        scheduler=DDIMScheduler(**NOISE, set_alpha_to_one=False, clip_sample=False, prediction_type=predicts, **noise),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return ModelRef("tiny-2", str(folder), "sd-2", hash=f"blake3:2{predicts}", prediction_type=predicts)


def build_sdxl(folder: Path, predicts: str = "epsilon", forces_zeros: bool = True, **noise: Any) -> ModelRef:
    torch.manual_seed(3)
    StableDiffusionXLPipeline(
        **_xl_parts(folder, numbers=6, context=TEXT_WIDTH + LARGE_WIDTH),
        text_encoder=new_text_encoder(),
        tokenizer=clip_tokenizer(folder / "tokenizer"),
        scheduler=EulerDiscreteScheduler(**NOISE, prediction_type=predicts, **noise),
        force_zeros_for_empty_prompt=forces_zeros,
    ).save_pretrained(folder)
    return ModelRef("tiny-xl", str(folder), "sdxl", hash=f"blake3:3{predicts}", prediction_type=predicts)


def build_refiner(folder: Path) -> ModelRef:
    torch.manual_seed(4)
    StableDiffusionXLImg2ImgPipeline(
        **_xl_parts(folder, numbers=5, context=LARGE_WIDTH),
        text_encoder=None,
        tokenizer=None,
        scheduler=EulerDiscreteScheduler(**NOISE),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
    ).save_pretrained(folder)
    return ModelRef("tiny-refiner", str(folder), "sdxl-refiner", hash="blake3:4")


def _xl_parts(folder: Path, numbers: int, context: int) -> dict[str, Any]:
    """What SDXL and its refiner have in common."""
    unet = new_unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        attention_head_dim=HEADS,
        use_linear_projection=True,
        cross_attention_dim=context,
        addition_embed_type="text_time",
        addition_time_embed_dim=NUMBER_WIDTH,
        projection_class_embeddings_input_dim=POOLED + numbers * NUMBER_WIDTH,
    )
    return {
        "vae": new_vae(scaling_factor=0.13025, force_upcast=True),
        "unet": unet,
        "text_encoder_2": new_large_text_encoder(),
        "tokenizer_2": clip_tokenizer(folder / "tokenizer_2", padding="!"),
    }


def clip_tokenizer(folder: Path, **padding: str) -> CLIPTokenizer:
    write_clip_tokenizer(folder, **padding)
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def new_vae(**words: Any) -> AutoencoderKL:
    widths = (32, 32, 32, 32)
    common = {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": 1,
        "latent_channels": 4,
        "sample_size": 64,
    }
    return AutoencoderKL(**{**common, **words}).eval()


def new_unet(**words: Any) -> UNet2DConditionModel:
    common = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 1,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": 8,
    }
    return UNet2DConditionModel(**{**common, **words}).eval()


def new_text_encoder(**words: Any) -> CLIPTextModel:
    return CLIPTextModel(text_config(TEXT_WIDTH, TEXT_WIDTH, **words)).eval()


def new_large_text_encoder() -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(text_config(LARGE_WIDTH, POOLED, hidden_act="gelu")).eval()


def text_config(width: int, projection: int, **words: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=projection,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
        **words,
    )


def image(number: int = 1, **values: object) -> Image:
    """An image of a plan; what is not given is small and quick."""
    common = {
        "number": number,
        "seed": 41 + number,
        "prompt": "a red circle on a blue background",
        "negative_prompt": "",
        "width": 64,
        "height": 64,
        "steps": 4,
        "cfg_scale": 7.5,
        "scheduler": "euler",
    }
    return Image(**{**common, **values})  # type: ignore[arg-type]
