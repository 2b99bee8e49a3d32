"""A Stable Diffusion 1 model with random weights, far smaller than the demo model, as a diffusers folder."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from invokeai_daemon.job.plan import Image, ModelRef
from invokeai_daemon.models.tokenizer import write_clip_tokenizer

TEXT_WIDTH = 32


def build_model(folder: Path, seed: int = 1) -> ModelRef:
    """Write the folder and say how a plan names it. Everything that is the layout's is as in a real model."""
    torch.manual_seed(seed)
    write_clip_tokenizer(folder / "tokenizer")
    pipeline = StableDiffusionPipeline(
        vae=new_vae(),
        text_encoder=new_text_encoder(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        unet=new_unet(),
        scheduler=PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    # Stable Diffusion's own config says this too, for the schedulers that would clip.
    pipeline.scheduler.register_to_config(clip_sample=False)
    pipeline.save_pretrained(folder)
    return ModelRef(name="tiny", path=str(folder), base="sd-1", hash=f"blake3:{seed}")


def new_vae() -> AutoencoderKL:
    widths = (32, 32, 32, 32)
    vae = AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=1,
        latent_channels=4,
        sample_size=64,
    )
    return vae.eval()


def new_unet(in_channels: int = 4) -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=8,
    )
    return unet.eval()


def new_text_encoder() -> CLIPTextModel:
    config = CLIPTextConfig(
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=TEXT_WIDTH,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )
    return CLIPTextModel(config).eval()


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
