"""Identity: what a model file is, in InvokeAI's words and values.

Made by `identify`, read by conversion, registry and commands. Words that InvokeAI has no value for (a hypernetwork, a
Chroma model) follow the names that diffusers and the models' authors use.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

Type = Literal[
    "main",
    "onnx",
    "vae",
    "lora",
    "control_lora",
    "controlnet",
    "embedding",
    "ip_adapter",
    "clip_vision",
    "clip_embed",
    "t2i_adapter",
    "t5_encoder",
    "qwen3_encoder",
    "qwen_vl_encoder",
    "qwen3_vl_encoder",
    "mistral_encoder",
    "wan_t5_encoder",
    "gemma2_encoder",
    "spandrel_image_to_image",
    "siglip",
    "flux_redux",
    "llava_onevision",
    "prompt_enhancer",
    "text_llm",
    "external_image_generator",
    "pid_decoder",
    "hypernetwork",
    "motion_adapter",
    "clipseg",
    "depth_estimator",
    "other",
]
Base = Literal[
    "any",
    "sd-1",
    "sd-2",
    "sd-3",
    "sdxl",
    "sdxl-refiner",
    "flux",
    "flux2",
    "cogview4",
    "z-image",
    "ernie-image",
    "ideogram-4",
    "external",
    "qwen-image",
    "anima",
    "krea-2",
    "wan",
    "auraflow",
    "bria",
    "chroma",
    "cogvideox",
    "cogview3",
    "cosmos",
    "deepfloyd-if",
    "flux3",
    "glm-image",
    "hidream",
    "hunyuan-dit",
    "hunyuan-image",
    "hunyuan-video",
    "kandinsky",
    "kolors",
    "longcat-image",
    "ltx-video",
    "lumina",
    "lumina2",
    "mochi",
    "nucleus-image",
    "omnigen2",
    "ovis-image",
    "pixart",
    "prx",
    "sana",
    "stable-cascade",
    "svd",
]
Variant = Literal[
    "normal",
    "inpaint",
    "depth",
    "edit",
    "large",
    "huge",
    "gigantic",
    "medium",
    "schnell",
    "dev",
    "dev_fill",
    "klein_4b",
    "klein_4b_base",
    "klein_9b",
    "klein_9b_base",
    "turbo",
    "zbase",
    "krea2_turbo",
    "krea2_base",
    "generate",
    "t2v_a14b",
    "i2v_a14b",
    "ti2v_5b",
    "a14b",
    "5b",
    "qwen3_4b",
    "qwen3_8b",
    "qwen3_06b",
    "cow_mistral3_small",
    "mistral3_24b",
    "res2k_sr4x",
    "res2kto4k_sr4x",
]
PredictionType = Literal["epsilon", "v_prediction", "sample", "flow"]

#: The same words for code that looks them up.
TYPES: tuple[str, ...] = get_args(Type)
BASES: tuple[str, ...] = get_args(Base)


@dataclass(frozen=True)
class Need:
    """A part that must be on this machine before a model can be used."""

    #: What it is, in the words of an Identity: t5_encoder, vae, clip_embed, …
    type: str
    #: The base that it must have; "any" for encoders that several bases share.
    base: str
    #: The variant that it must have; None for any.
    variant: str | None
    #: What is missing and what to drop to have it, as a sentence.
    why: str


@dataclass(frozen=True)
class Identity:
    """What a model is."""

    #: main, lora, embedding, vae, controlnet, … or unknown
    type: str
    #: sd-1, sd-2, sdxl, … or unknown
    base: str
    #: checkpoint, diffusers, lycoris, … or unknown
    format: str
    #: normal, inpaint, depth; None where the type has no variants
    variant: str | None = None
    #: epsilon, v_prediction, sample, flow; None where the type predicts nothing
    prediction_type: str | None = None
    #: The facts that decided, as sentences: "model.diffusion_model.… has context width 768".
    evidence: tuple[str, ...] = ()
    #: What was taken for granted because no fact decides it: "prediction_type".
    assumed: tuple[str, ...] = ()
    #: How the keys of a LoRA are written: kohya, diffusers, peft, …; None where there is only one way.
    dialect: str | None = None
    #: Parts that are not in the file and that it cannot be used without.
    needs: tuple[Need, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """How an intake ended.

    `ok`: known and usable, once what `identity.needs` names is there; `unusable`: known, and `reason` says what is in
    the way and what to do; `unknown`: a weight file of no known kind; `rejected`: broken or unsafe.
    """

    state: str
    identity: Identity
    #: One sentence for the log and the status screen.
    reason: str = ""
    #: The families that came close, each with the fact that ruled it out.
    nearest: tuple[tuple[str, str], ...] = field(default=())
