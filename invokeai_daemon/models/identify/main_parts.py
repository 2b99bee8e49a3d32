"""What main models need beside their denoiser, how it is recognised inside a file, and what to drop when it is absent.

Used by the tables of main models (`main_unet`, `main_dit`, `main_named`, …).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from invokeai_daemon.models.identify.table import NONE, Choice, Family, Rule, always, lacks
from invokeai_daemon.models.identify.weights import Weights
from invokeai_daemon.models.identity import Need

#: What a main model may have merged into it or carry along; a file that is one is not the other.
GOES_BEFORE = (
    "lora",
    "control_lora",
    "vae",
    "clip_embed",
    "clip_vision",
    "t5_encoder",
    "qwen3_encoder",
    "qwen_vl_encoder",
    "qwen3_vl_encoder",
    "mistral_encoder",
    "wan_t5_encoder",
    "gemma2_encoder",
    "text_llm",
    "embedding",
    "other",
)

#: What stands before the names of a denoiser in a file of several parts; the last is a denoiser alone.
WRAPPERS = ("model.diffusion_model.", "diffusion_model.", "")
#: The same in the layout of diffusers.
DIFFUSERS_WRAPPERS = ("transformer.", "model.diffusion_model.", "")
_ANY_WRAPPER = ("model.diffusion_model.", "diffusion_model.", "transformer.", "net.", "model.", "")

#: What flow-matching models predict.
FLOW = always("flow")
NO_CONTROL = lacks(
    "controlnet_blocks.*",
    "controlnet_x_embedder.*",
    "input_hint_block.*",
    "control_layers.*",
    "control_all_x_embedder.*",
    called="the control branch of a ControlNet",
)


@dataclass(frozen=True)
class Part:
    """A part that a main model needs."""

    need: Need
    #: Patterns of names that show it inside the same file.
    shown_by: tuple[str, ...]


def needs(*parts: Part) -> Callable[[Weights], Iterable[Need]]:
    """The needs of a family: its parts that are not in the file."""

    def missing(weights: Weights) -> Iterable[Need]:
        return tuple(part.need for part in parts if weights.whole.find(*part.shown_by) is None)

    return missing


def _encoder(type_: str, variant: str | None, called: str, drop: str, *shown_by: str) -> Part:
    why = f"its text encoder {called} is not in the file; drop {drop} into autoimport/"
    return Part(Need(type_, "any", variant, why), shown_by)


def _vae(base: str, drop: str) -> Part:
    why = f"its VAE is not in the file; drop {drop} into autoimport/"
    return Part(Need("vae", base, None, why), ("first_stage_model.*", "vae.*"))


CLIP_L = _encoder(
    "clip_embed",
    "large",
    "CLIP-L",
    "clip_l.safetensors",
    "cond_stage_model.transformer.*",
    "conditioner.embedders.0.transformer.*",
    "text_encoders.clip_l.*",
    "text_encoder.text_model.*",
    "te.text_model.*",
)
#: Alone it is of no use here, so that only another whole model can give it.
CLIP_H = _encoder(
    "clip_embed",
    "huge",
    "OpenCLIP-H",
    "a whole Stable Diffusion 2 model instead",
    "cond_stage_model.model.*",
    "text_encoders.clip_h.*",
)
CLIP_G = _encoder(
    "clip_embed",
    "gigantic",
    "CLIP-G",
    "clip_g.safetensors",
    "conditioner.embedders.*.model.*",
    "text_encoders.clip_g.*",
)
T5_XXL = _encoder(
    "t5_encoder",
    None,
    "T5-XXL",
    "t5xxl_fp16.safetensors (or t5xxl_fp8_e4m3fn.safetensors)",
    "text_encoders.t5xxl.*",
    "text_encoders.t5.*",
)
SD_VAE = _vae("sd-1", "vae-ft-mse-840000-ema-pruned.safetensors")
SDXL_VAE = _vae("sdxl", "sdxl_vae.safetensors")
SD_3_VAE = _vae("sd-3", "the vae/ of stable-diffusion-3-medium-diffusers")
FLUX_VAE = _vae("flux", "ae.safetensors (of FLUX.1-schnell)")


def known_by_name(
    base: str,
    called: str,
    mark: Rule,
    *rules: Rule,
    variant: Choice = NONE,
    prediction_type: Choice = FLOW,
    under: tuple[str, ...] = _ANY_WRAPPER,
) -> Family:
    """A family that is recognised and cannot be used yet."""
    return Family(
        "main",
        base,
        f"a model of {called}",
        marks=(mark, NO_CONTROL),
        rules=rules,
        under=under,
        variant=variant,
        prediction_type=prediction_type,
        unusable="nothing here converts or renders such models; it is kept under its name",
        before=GOES_BEFORE,
    )
