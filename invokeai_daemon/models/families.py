"""Families: one row per kind of model, as data. Adding a family is adding a row; `identify` tells the story.

A row is known by rules over `Facts`. The first rules are its marks: only where they hold the family is named as near.
A row that is not `supported` yet is recognised all the same, so that a user learns what the file is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from invokeai_daemon.models.facts import PARTS, Facts


@dataclass(frozen=True)
class Rule:
    """One condition on the facts, with the words for what was seen, whether it holds or not."""

    holds: Callable[[Facts], bool]
    says: Callable[[Facts], str]
    #: A firm rule cannot be overruled by a sidecar: the conversion depends on it.
    firm: bool = True
    #: Whether it tells a reader something when it holds.
    evidence: bool = True


@dataclass(frozen=True)
class Family:
    """A kind of model, in InvokeAI's words."""

    type: str
    #: One of InvokeAI's bases; "unknown" where only `bases` can tell.
    base: str
    #: How a sentence calls it.
    name: str
    #: Where all hold, the family is near enough to be named.
    marks: tuple[Rule, ...]
    rules: tuple[Rule, ...] = ()
    #: Whether it can be imported and rendered.
    supported: bool = False
    #: Format of a single file of it.
    format: str = "checkpoint"
    #: in_channels -> variant
    variants: Mapping[int, str] = field(default_factory=dict)
    #: Assumed where no fact says it; None where the type predicts nothing.
    prediction_type: str | None = None
    #: context or vector width -> base, for types that attach to several.
    bases: Mapping[int, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.base} {self.type}" if self.base != "unknown" else self.type


def has(*parts: str) -> Rule:
    """One of these parts is there."""
    wanted = " or ".join(PARTS[part][1] if part in PARTS else part for part in parts)
    return Rule(
        lambda facts: bool(facts.parts & set(parts)),
        lambda facts: next(
            (facts.seen[part] for part in parts if part in facts.parts), f"it has no {without_article(wanted)}"
        ),
    )


def lacks(part: str) -> Rule:
    return Rule(
        lambda facts: part not in facts.parts,
        lambda facts: facts.seen.get(part, ""),
        evidence=False,
    )


def without_article(words: str) -> str:
    return words.removeprefix("a ").removeprefix("an ").removeprefix("the ")


def number(fact: str, *wanted: int, firm: bool = True) -> Rule:
    """A number of the facts is one of these."""
    words = " or ".join(str(value) for value in wanted)

    def says(facts: Facts) -> str:
        value = getattr(facts, fact)
        if value in wanted:
            return facts.seen[fact]
        return f"{facts.seen[fact]}, not {words}" if value is not None else f"its {_words(fact)} was not found"

    return Rule(lambda facts: getattr(facts, fact) in wanted, says, firm)


def _words(fact: str) -> str:
    return fact.replace("_", " ")


def _own_text_width(facts: Facts) -> bool:
    if facts.text_width is not None:
        return facts.text_width == facts.context_width
    return facts.context_width == 768


def _says_text_width(facts: Facts) -> str:
    context = facts.seen.get("context_width", "its context width was not found")
    if facts.text_width is not None:
        return f"{context}, and {facts.seen['text_width']}"
    return f"{context}{'' if facts.context_width == 768 else ', not 768'} (and it has no text encoder)"


#: SD-1's UNet is as wide as its own CLIP encoder: 768 for the published models, but any pair that agrees is one.
TEXT_WIDTH_AGREES = Rule(_own_text_width, _says_text_width, firm=False)
CONVOLUTIONS = Rule(
    lambda facts: facts.linear_projection is False,
    lambda facts: facts.seen.get("linear_projection", "its attention blocks have no proj_in"),
)
OTHER_WIDTHS = Rule(
    lambda facts: facts.context_width not in (1024, 1280, 2048),
    lambda facts: facts.seen.get("context_width", "its context width was not found"),
    evidence=False,
)

SD_1 = Family(
    "main",
    "sd-1",
    "a Stable Diffusion 1 checkpoint",
    marks=(has("unet"), lacks("controlnet")),
    rules=(
        lacks("conditioner"),
        lacks("open_clip"),
        lacks("class_vector"),
        CONVOLUTIONS,
        OTHER_WIDTHS,
        TEXT_WIDTH_AGREES,
        number("in_channels", 4, 9),
    ),
    supported=True,
    variants={4: "normal", 9: "inpaint"},
    prediction_type="epsilon",
)
SD_2 = Family(
    "main",
    "sd-2",
    "a Stable Diffusion 2 checkpoint",
    marks=(has("unet"), lacks("controlnet")),
    rules=(lacks("conditioner"), lacks("class_vector"), number("context_width", 1024)),
    variants={4: "normal", 9: "inpaint", 5: "depth"},
    prediction_type="v_prediction",
)
SDXL = Family(
    "main",
    "sdxl",
    "an SDXL checkpoint",
    marks=(has("unet"), lacks("controlnet")),
    rules=(number("context_width", 2048),),
    variants={4: "normal", 9: "inpaint"},
    prediction_type="epsilon",
)
SDXL_REFINER = Family(
    "main",
    "sdxl-refiner",
    "an SDXL refiner checkpoint",
    marks=(has("unet"), lacks("controlnet")),
    rules=(number("context_width", 1280),),
    variants={4: "normal"},
    prediction_type="epsilon",
)
SD_3 = Family("main", "sd-3", "a Stable Diffusion 3 checkpoint", marks=(has("mmdit"),))
FLUX = Family("main", "flux", "a FLUX checkpoint", marks=(has("flux"), lacks("controlnet"), lacks("lora")))
CONTROLNET = Family(
    "controlnet",
    "unknown",
    "a ControlNet",
    marks=(has("controlnet"),),
    bases={768: "sd-1", 1024: "sd-2", 2048: "sdxl"},
)
LORA = Family(
    "lora",
    "unknown",
    "a LoRA",
    marks=(has("lora"), lacks("unet")),
    format="lycoris",
    bases={768: "sd-1", 1024: "sd-2", 2048: "sdxl"},
)
VAE = Family(
    "vae",
    "unknown",
    "a VAE",
    marks=(has("vae", "bare vae"), lacks("unet"), lacks("mmdit"), lacks("flux"), lacks("lora")),
)
EMBEDDING = Family(
    "embedding",
    "unknown",
    "a textual inversion embedding",
    marks=(number("vector_width", 768, 1024, 1280),),
    format="embedding_file",
    bases={768: "sd-1", 1024: "sd-2", 1280: "sdxl"},
)
IP_ADAPTER = Family(
    "ip_adapter",
    "unknown",
    "an IP-Adapter",
    marks=(has("ip_adapter"), lacks("unet")),
    bases={768: "sd-1", 1024: "sd-2", 2048: "sdxl"},
)
T2I_ADAPTER = Family("t2i_adapter", "unknown", "a T2I-Adapter", marks=(has("t2i_adapter"), lacks("unet")))
CLIP = Family("clip_embed", "any", "a CLIP text encoder", marks=(has("bare clip"), lacks("unet"), lacks("lora")))
UPSCALER = Family(
    "spandrel_image_to_image", "any", "an upscaler", marks=(has("upscaler"), lacks("unet"), lacks("lora"))
)

#: Every known kind. The order says nothing: a file that fits two rows is ambiguous.
FAMILIES = (
    SD_1,
    SD_2,
    SDXL,
    SDXL_REFINER,
    SD_3,
    FLUX,
    CONTROLNET,
    LORA,
    VAE,
    EMBEDDING,
    IP_ADAPTER,
    T2I_ADAPTER,
    CLIP,
    UPSCALER,
)
