"""Small models of the families that follow a flow, as diffusers folders: Stable Diffusion 3.5 and FLUX.1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import T5Config, T5EncoderModel, T5TokenizerFast
from transformers.models.clip import CLIPTextModelWithProjection

from invokeai_daemon.job.plan import ModelRef
from tests.engine.build import (
    LARGE_WIDTH,
    POOLED,
    TEXT_WIDTH,
    clip_tokenizer,
    new_large_text_encoder,
    new_text_encoder,
    new_vae,
    text_config,
)

#: Width of T5, and of what transformers are told.
LONG_WIDTH = 96
LATENTS = 16
#: Channels of a head, and how FLUX.1 divides them among the places of a token.
HEAD, PLACES = 16, (4, 6, 6)
#: What T5 knows in these tests.
WORDS = (
    "▁",
    "▁a",
    "▁red",
    "▁green",
    "▁circle",
    "▁square",
    "▁star",
    "▁on",
    "▁blue",
    "▁background",
    "▁blurred",
    "s",
    "e",
)


def build_sd_3(folder: Path, has_t5: bool = True) -> ModelRef:
    """Stable Diffusion 3.5: the first block attends twice, queries and keys are normalised."""
    torch.manual_seed(5)
    StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=32,
            in_channels=LATENTS,
            out_channels=LATENTS,
            num_layers=2,
            attention_head_dim=HEAD,
            num_attention_heads=4,
            joint_attention_dim=LONG_WIDTH,
            caption_projection_dim=4 * HEAD,
            pooled_projection_dim=TEXT_WIDTH + POOLED,
            pos_embed_max_size=40,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(1.5305, 0.0609),
        text_encoder=CLIPTextModelWithProjection(text_config(TEXT_WIDTH, TEXT_WIDTH)).eval(),
        tokenizer=clip_tokenizer(folder / "tokenizer"),
        text_encoder_2=new_large_text_encoder(),
        tokenizer_2=clip_tokenizer(folder / "tokenizer_2", padding="!"),
        text_encoder_3=_t5() if has_t5 else None,
        tokenizer_3=new_words() if has_t5 else None,
    ).save_pretrained(folder)
    return ModelRef("tiny-3", str(folder), "sd-3", hash="blake3:5", variant="medium", prediction_type="flow")


def build_flux(folder: Path, variant: str = "dev") -> ModelRef:
    """FLUX.1: dev, schnell or dev_fill."""
    torch.manual_seed(6)
    is_schnell, kind = variant == "schnell", FluxFillPipeline if variant == "dev_fill" else FluxPipeline
    kind(
        transformer=FluxTransformer2DModel(
            # Of Fill: latents, masked latents, and every pixel of the mask.
            in_channels=4 * (2 * LATENTS + 64) if variant == "dev_fill" else 4 * LATENTS,
            out_channels=4 * LATENTS,
            num_layers=1,
            num_single_layers=2,
            attention_head_dim=HEAD,
            num_attention_heads=4,
            joint_attention_dim=LONG_WIDTH,
            pooled_projection_dim=TEXT_WIDTH,
            guidance_embeds=not is_schnell,
            axes_dims_rope=PLACES,
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(
            shift=1.0 if is_schnell else 3.0,
            use_dynamic_shifting=not is_schnell,
            base_shift=0.5,
            max_shift=1.15,
            base_image_seq_len=256,
            max_image_seq_len=4096,
        ),
        vae=_vae(0.3611, 0.1159),
        text_encoder=new_text_encoder(),
        tokenizer=clip_tokenizer(folder / "tokenizer"),
        text_encoder_2=_t5(),
        tokenizer_2=new_words(),
    ).save_pretrained(folder)
    return ModelRef(f"tiny-{variant}", str(folder), "flux", hash="blake3:6", variant=variant, prediction_type="flow")


def _vae(scaling: float, shift: float) -> Any:
    return new_vae(
        latent_channels=LATENTS,
        scaling_factor=scaling,
        shift_factor=shift,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _t5() -> T5EncoderModel:
    config = T5Config(
        vocab_size=3 + len(WORDS),
        d_model=LONG_WIDTH,
        d_kv=HEAD,
        d_ff=2 * LONG_WIDTH,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config).eval()


def new_words() -> T5TokenizerFast:
    likely = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return T5TokenizerFast(vocab=[*likely, *((word, -2.0) for word in WORDS)], extra_ids=0)


assert LARGE_WIDTH + TEXT_WIDTH <= LONG_WIDTH
