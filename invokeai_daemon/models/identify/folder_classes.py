"""Classes: what the class that a folder's configs name makes of it, as data. Used by `folders`.

The names are those of diffusers and transformers; the bases and variants are InvokeAI's words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]
#: What a config says: the word, and the sentence that shows it.
Words = tuple[str, str]


@dataclass(frozen=True)
class Pipeline:
    """A pipeline class of diffusers."""

    base: str
    #: How a sentence calls its models.
    called: str
    #: The variant, where the class tells it.
    variant: str | None = None
    #: Whether it can be used; others are kept under their name.
    usable: bool = False


#: Ordinary Stable Diffusion: the UNet's config tells base and variant.
STABLE_DIFFUSION = frozenset(
    {
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionInpaintPipelineLegacy",
        "StableDiffusionDepth2ImgPipeline",
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
        "LatentConsistencyModelPipeline",
        "LatentConsistencyModelImg2ImgPipeline",
    }
)

_FAMILIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("flux2", "FLUX.2", ("Flux2",)),
    ("flux3", "FLUX.3", ("Flux3",)),
    ("qwen-image", "Qwen-Image", ("QwenImage",)),
    ("z-image", "Z-Image", ("ZImage",)),
    ("cogview4", "CogView 4", ("CogView4",)),
    ("cogview3", "CogView 3", ("CogView3",)),
    ("chroma", "Chroma", ("Chroma",)),
    ("lumina2", "Lumina 2", ("Lumina2",)),
    ("lumina", "Lumina Next", ("LuminaPipeline", "LuminaText2Img")),
    ("auraflow", "AuraFlow", ("AuraFlow",)),
    ("pixart", "PixArt", ("PixArt",)),
    ("sana", "Sana", ("Sana",)),
    ("hunyuan-dit", "Hunyuan-DiT", ("HunyuanDiT",)),
    ("hunyuan-image", "Hunyuan-Image", ("HunyuanImage",)),
    ("hunyuan-video", "Hunyuan-Video", ("HunyuanVideo", "HunyuanSkyreels")),
    ("wan", "Wan", ("Wan",)),
    ("stable-cascade", "Stable Cascade", ("StableCascade",)),
    ("kolors", "Kolors", ("Kolors",)),
    ("hidream", "HiDream-I1", ("HiDream",)),
    ("krea-2", "Krea 2", ("Krea2",)),
    ("anima", "Anima", ("Anima",)),
    ("ernie-image", "ERNIE-Image", ("ErnieImage",)),
    ("ideogram-4", "Ideogram 4", ("Ideogram4",)),
    ("cosmos", "Cosmos", ("Cosmos",)),
    ("ltx-video", "LTX-Video", ("LTX",)),
    ("mochi", "Mochi 1", ("Mochi",)),
    ("cogvideox", "CogVideoX", ("CogVideoX", "ConsisID")),
    ("svd", "Stable Video Diffusion", ("StableVideoDiffusion",)),
    ("deepfloyd-if", "DeepFloyd IF", ("IF",)),
    ("kandinsky", "Kandinsky", ("Kandinsky",)),
    ("bria", "Bria", ("Bria",)),
    ("longcat-image", "LongCat-Image", ("LongCatImage",)),
    ("ovis-image", "Ovis-Image", ("OvisImage",)),
    ("glm-image", "GLM-Image", ("GlmImage",)),
    ("prx", "PRX", ("PRX",)),
    ("nucleus-image", "Nucleus-Image", ("NucleusMoEImage",)),
    ("omnigen2", "OmniGen 2", ("OmniGen2",)),
)
_OWN_VARIANT = {
    "FluxFillPipeline": "dev_fill",
    "FluxKontextPipeline": "dev",
    "FluxKontextInpaintPipeline": "dev",
    "QwenImagePipeline": "generate",
    "QwenImageEditPipeline": "edit",
    "QwenImageEditPlusPipeline": "edit",
    "QwenImageEditInpaintPipeline": "edit",
}
_FLUX_WITH_CONTROL = ("FluxControl", "FluxPriorRedux", "FluxModular", "FluxKontextModular")


def pipeline_of(name: str) -> Pipeline | None:
    """The family of a pipeline class that is not of the ordinary Stable Diffusion kind; None for an unknown one."""
    if name.startswith("StableDiffusion3"):
        usable = name in (
            "StableDiffusion3Pipeline",
            "StableDiffusion3Img2ImgPipeline",
            "StableDiffusion3InpaintPipeline",
        )
        return Pipeline("sd-3", "Stable Diffusion 3", None, usable)
    if name.startswith("Flux") and not name.startswith(("Flux2", "Flux3")):
        return Pipeline("flux", "FLUX.1", _OWN_VARIANT.get(name), not name.startswith(_FLUX_WITH_CONTROL))
    for base, called, beginnings in _FAMILIES:
        if name.startswith(beginnings):
            return Pipeline(base, called, _OWN_VARIANT.get(name))
    return None


# Variants that the config of a denoiser tells


@dataclass(frozen=True)
class Configs:
    """The configs of a pipeline that tell the variant of its denoiser; empty for those that are not there."""

    denoiser: Config
    #: model_index.json
    index: Config
    scheduler: Config


def denoiser_variant(base: str, configs: Configs) -> Words | None:
    """The variant of a transformer, where the configs of its pipeline tell it."""
    tell = _VARIANTS.get(base)
    return tell(configs) if tell else None


def _flux(configs: Configs) -> Words | None:
    if configs.denoiser.get("in_channels") == 384:
        return "dev_fill", "transformer/config.json says in_channels 384"
    guided = configs.denoiser.get("guidance_embeds")
    if not isinstance(guided, bool):
        return None
    return "dev" if guided else "schnell", f"transformer/config.json says guidance_embeds {str(guided).lower()}"


def _sd_3(configs: Configs) -> Words | None:
    heads = configs.denoiser.get("num_attention_heads")
    variant = {24: "medium", 38: "large"}.get(heads) if isinstance(heads, int) else None
    return (variant, f"transformer/config.json says num_attention_heads {heads}") if variant else None


def _flux_2(configs: Configs) -> Words | None:
    width = configs.denoiser.get("joint_attention_dim")
    variant = {7680: "klein_4b", 12288: "klein_9b", 15360: "dev"}.get(width) if isinstance(width, int) else None
    if variant and variant != "dev" and configs.index.get("is_distilled") is False:
        return f"{variant}_base", "model_index.json says is_distilled false"
    return (variant, f"transformer/config.json says joint_attention_dim {width}") if variant else None


def _wan(configs: Configs) -> Words | None:
    channels, two = configs.denoiser.get("in_channels"), bool(_named(configs.index.get("transformer_2")))
    if channels == 48:
        return "ti2v_5b", "transformer/config.json says in_channels 48"
    if not two or channels not in (16, 36):
        return None
    says = f"model_index.json names two transformers, which take {channels} channels"
    return ("t2v_a14b" if channels == 16 else "i2v_a14b"), says


def _named(part: Any) -> bool:
    return isinstance(part, list) and len(part) == 2 and all(part)


def _z_image(configs: Configs) -> Words | None:
    """Both have the same layers; the distilled one is sampled with a smaller shift."""
    shift = configs.scheduler.get("shift")
    if isinstance(shift, bool) or not isinstance(shift, int | float):
        return None
    return "zbase" if shift >= 5 else "turbo", f"scheduler/scheduler_config.json says shift {shift}"


def _krea_2(configs: Configs) -> Words | None:
    distilled = configs.index.get("is_distilled")
    if not isinstance(distilled, bool):
        return None
    says = f"model_index.json says is_distilled {str(distilled).lower()}"
    return "krea2_turbo" if distilled else "krea2_base", says


_VARIANTS: Mapping[str, Callable[[Configs], Words | None]] = {
    "flux": _flux,
    "flux2": _flux_2,
    "krea-2": _krea_2,
    "sd-3": _sd_3,
    "wan": _wan,
    "z-image": _z_image,
}

# Single parts


@dataclass(frozen=True)
class Component:
    """A class of diffusers or transformers that is a model by itself."""

    type: str
    base: str = "unknown"
    format: str = "diffusers"
    #: A key of the config, and what its values say of the variant.
    key: str = ""
    variants: Mapping[int, str] | None = None

    def variant(self, config: Config) -> Words | None:
        value = config.get(self.key)
        said = (self.variants or {}).get(value) if isinstance(value, int) else None
        return (said, f"config.json says {self.key} {value}") if said else None


_CLIP = {768: "large", 1280: "gigantic"}
_QWEN_3 = {1024: "qwen3_06b", 2560: "qwen3_4b", 4096: "qwen3_8b"}

COMPONENTS: Mapping[str, Component] = {
    "CLIPTextModel": Component("clip_embed", "any", key="hidden_size", variants=_CLIP),
    "CLIPTextModelWithProjection": Component("clip_embed", "any", key="hidden_size", variants=_CLIP),
    "CLIPVisionModel": Component("clip_vision", "any"),
    "CLIPVisionModelWithProjection": Component("clip_vision", "any"),
    "CLIPModel": Component("clip_vision", "any"),
    "T5EncoderModel": Component("t5_encoder", "any", "t5_encoder"),
    "T5ForConditionalGeneration": Component("t5_encoder", "any", "t5_encoder"),
    "UMT5EncoderModel": Component("wan_t5_encoder", "any", "wan_t5_encoder"),
    "Qwen3Model": Component("qwen3_encoder", "any", "qwen3_encoder", "hidden_size", _QWEN_3),
    "Qwen3ForCausalLM": Component("qwen3_encoder", "any", "qwen3_encoder", "hidden_size", _QWEN_3),
    "Qwen2_5_VLForConditionalGeneration": Component("qwen_vl_encoder", "any", "qwen_vl_encoder"),
    "Qwen2VLForConditionalGeneration": Component("qwen_vl_encoder", "any", "qwen_vl_encoder"),
    "Qwen3VLForConditionalGeneration": Component("qwen3_vl_encoder", "any", "qwen3_vl_encoder"),
    "Qwen3VLModel": Component("qwen3_vl_encoder", "any", "qwen3_vl_encoder"),
    "Mistral3ForConditionalGeneration": Component("mistral_encoder", "any", "mistral_encoder"),
    "Gemma2Model": Component("gemma2_encoder", "any", "gemma2_encoder"),
    "Gemma2ForCausalLM": Component("gemma2_encoder", "any", "gemma2_encoder"),
    "CLIPSegForImageSegmentation": Component("clipseg", "any"),
    "DepthAnythingForDepthEstimation": Component("depth_estimator", "any"),
    "DPTForDepthEstimation": Component("depth_estimator", "any"),
    "ZoeDepthForDepthEstimation": Component("depth_estimator", "any"),
    "SiglipModel": Component("siglip", "any"),
    "SiglipVisionModel": Component("siglip", "any"),
    "LlavaOnevisionForConditionalGeneration": Component("llava_onevision", "any"),
    "ControlNetModel": Component("controlnet"),
    "ControlNetUnionModel": Component("controlnet", "sdxl"),
    "FluxControlNetModel": Component("controlnet", "flux"),
    "SD3ControlNetModel": Component("controlnet", "sd-3"),
    "QwenImageControlNetModel": Component("controlnet", "qwen-image"),
    "ZImageControlNetModel": Component("controlnet", "z-image"),
    "HunyuanDiT2DControlNetModel": Component("controlnet", "hunyuan-dit"),
    "SanaControlNetModel": Component("controlnet", "sana"),
    "SparseControlNetModel": Component("controlnet", "sd-1"),
    "T2IAdapter": Component("t2i_adapter"),
    "MultiAdapter": Component("t2i_adapter"),
    "MotionAdapter": Component("motion_adapter"),
    "AutoencoderKL": Component("vae"),
    "AutoencoderTiny": Component("vae"),
    "AsymmetricAutoencoderKL": Component("vae", "sd-1"),
    "ConsistencyDecoderVAE": Component("vae", "sd-1"),
    "AutoencoderKLTemporalDecoder": Component("vae", "svd"),
    "AutoencoderKLFlux2": Component("vae", "flux2"),
    "AutoencoderKLQwenImage": Component("vae", "qwen-image"),
    "AutoencoderKLWan": Component("vae", "wan"),
    "AutoencoderKLHunyuanVideo": Component("vae", "hunyuan-video"),
    "AutoencoderKLHunyuanImage": Component("vae", "hunyuan-image"),
    "AutoencoderKLLTXVideo": Component("vae", "ltx-video"),
    "AutoencoderKLMochi": Component("vae", "mochi"),
    "AutoencoderKLCogVideoX": Component("vae", "cogvideox"),
    "AutoencoderKLCosmos": Component("vae", "cosmos"),
    "AutoencoderDC": Component("vae", "sana"),
    "PaellaVQModel": Component("vae", "stable-cascade"),
    "VQModel": Component("vae"),
    "FluxReduxImageEncoder": Component("flux_redux", "flux"),
    "ReduxImageEncoder": Component("flux_redux", "flux"),
}
#: Where a config names no class: what transformers calls the kind of model.
MODEL_TYPES: Mapping[str, str] = {
    "clip_text_model": "CLIPTextModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    "umt5": "UMT5EncoderModel",
    "t5": "T5EncoderModel",
}


def component_of(config: Config) -> tuple[str, Component] | None:
    """The class that a config.json names and what it makes of the folder; None when it is none of ours."""
    name = class_of(config)
    if name in COMPONENTS:
        return name, COMPONENTS[name]
    if name.endswith("ForCausalLM"):
        return name, Component("text_llm", "any")
    return None


def class_of(config: Config) -> str:
    """The class that a config.json is of; empty when it does not say."""
    own = config.get("_class_name")
    if isinstance(own, str):
        return own
    names = config.get("architectures")
    if isinstance(names, list) and names and isinstance(names[0], str):
        return names[0]
    return MODEL_TYPES.get(str(config.get("model_type")), "")


#: Scale of a VAE's latents -> base.
SCALES = {0.18215: "sd-1", 0.13025: "sdxl", 1.5305: "sd-3", 0.3611: "flux"}


def base_by_config(type_: str, config: Config) -> Words | None:
    """The base of a part, where its config tells it."""
    if type_ == "vae":
        scale = config.get("scaling_factor")
        base = SCALES.get(round(scale, 5)) if isinstance(scale, int | float) else None
        if scale == 1 and class_of(config) == "AutoencoderKL" and config.get("latent_channels") == 16:
            base = "cogview4"
        return (base, f"config.json says scaling_factor {scale}") if base else None
    if type_ == "controlnet":
        width = config.get("cross_attention_dim")
        base = (
            {768: "sd-1", 1024: "sd-2", 2048: "sdxl", 1280: "sdxl-refiner"}.get(width)
            if isinstance(width, int)
            else None
        )
        return (base, f"config.json says cross_attention_dim {width}") if base else None
    if type_ == "t2i_adapter":
        kind = config.get("adapter_type")
        base = {"full_adapter": "sd-1", "light_adapter": "sd-1", "full_adapter_xl": "sdxl"}.get(str(kind))
        return (base, f"config.json says adapter_type {kind}") if base else None
    return None
