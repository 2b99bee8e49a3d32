"""What a job file may say. A `Job` is what was asked; `None` means not asked. Plans come from it, see plan_job."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from invokeai_daemon.job.schedulers import ALIASES, SCHEDULERS, canonical
from invokeai_daemon.strict_toml import Mistake, nearest, show

MAX_SEED = 2**32 - 1
#: Keys that start with this are the user's own.
OWN_PREFIX = "x-"
#: Where `Job` collects them; no key of a file can be in its way, since this one is the user's own too.
_OWN_KEYS = OWN_PREFIX


def _clean_text(text: str, path: str = "") -> str:
    if "\0" in text:
        raise Mistake("The text holds a NUL character.", "Remove it.", path)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise Mistake("The text holds half of a UTF-16 pair.", "Write the character itself.", path)
    return text


def _multiple_of_8(size: int) -> int:
    if size % 8:
        raise Mistake(f"{size} is not a multiple of 8.", f"Use {size - size % 8} or {size - size % 8 + 8}.")
    return size


def _scheduler(name: str) -> str:
    known = canonical(name)
    if known is None:
        meant = nearest(name, (*SCHEDULERS, *ALIASES))
        hint = f'Did you mean "{meant}"?' if meant else f"Use one of {', '.join(SCHEDULERS)}."
        raise Mistake(f"{show(name)} is no scheduler.", hint)
    return known


def _plain(value: Any, path: str = "") -> Any:
    """A value of the user's own as JSON can carry it: dates become text. Raises Mistake for what cannot be carried."""
    if isinstance(value, Mapping):
        start = f"{path}." if path else ""
        return {_clean_text(str(key), path): _plain(inner, start + str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, path) for inner in value]
    if isinstance(value, str):
        return _clean_text(value, path)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise Mistake(f"{value} is not a finite number.", "Put it in quotes to keep it as text.", path)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise Mistake("The number has more than 64 bits.", "Put it in quotes to keep it as text.", path)
    return value


Text = Annotated[str, AfterValidator(_clean_text)]
Size = Annotated[int, Field(ge=64, le=32768), AfterValidator(_multiple_of_8)]
SchedulerName = Annotated[str, AfterValidator(_scheduler)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Fraction = Annotated[float, Field(ge=0, le=1)]
#: A seed and its weight. TOML has lists only, so a tuple need not be one.
Weighted = Annotated[tuple[Seed, Fraction], Field(strict=False)]
Name = Annotated[str, Field(min_length=1), AfterValidator(_clean_text)]
OwnTable = Annotated[dict[str, Any], BeforeValidator(partial(_plain, path="meta"))]
OwnKeys = Annotated[dict[str, Any], BeforeValidator(_plain)]


@dataclass(frozen=True)
class Source:
    """Where a job was read; no part of what it asks, so jobs from different files can be equal."""

    where: str = field(default="the job", compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)


class Values(BaseModel):
    """The keys of a job that have defaults: in a job, a model's default settings, or `[defaults]` of the settings."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    #: What other programs call these keys.
    synonyms: ClassVar[dict[str, str]] = {
        "negative": "negative_prompt",
        "cfg": "cfg_scale",
        "guidance": "cfg_scale",
        "guidance_scale": "cfg_scale",
        "sampler": "scheduler",
        "sampler_name": "scheduler",
        "count": "iterations",
        "images": "iterations",
        "n": "iterations",
        "batch_size": "iterations",
        "num_inference_steps": "steps",
        "checkpoint": "model",
        "w": "width",
        "h": "height",
        "guidance_rescale": "cfg_rescale_multiplier",
        "cfg_rescale": "cfg_rescale_multiplier",
        "seamless": "seamless_x",
        "tiling": "seamless_x",
        "variation_amount": "variation",
        "with_variations": "variation",
    }

    model: Name | None = Field(None, description="a name in models.yaml, a unique prefix of one, or a content hash")
    negative_prompt: Text | None = Field(None, description="what the picture should not show")
    prompt_syntax: Literal["invokeai", "a1111", "plain"] | None = Field(
        None, description="how the prompts are read: invokeai unless given; plain for words and nothing else"
    )
    log_tokenization: bool | None = Field(None, description="result.json says how the prompts were split into tokens")
    width: Size | None = Field(None, description="pixels, a multiple of 8")
    height: Size | None = Field(None, description="pixels, a multiple of 8")
    steps: int | None = Field(None, ge=1, le=1000, description="denoising steps")
    cfg_scale: float | None = Field(None, ge=1, le=200, description="how closely to follow the prompt; 1 for freely")
    scheduler: SchedulerName | None = Field(None, description="InvokeAI's name, or a 2.3 sampler name")
    seed: Seed | None = Field(None, description="0 to 4294967295; drawn when the job starts if it is not given")
    iterations: int | None = Field(None, ge=1, le=1_000_000, description="images, with the seeds seed, seed+1, …")
    priority: int | None = Field(None, ge=-1000, le=1000, description="higher runs first; 0 when it is not given")
    perlin: Fraction | None = Field(None, description="share of Perlin noise in the noise, 0 to 1")
    threshold: float | None = Field(None, ge=0, description="latents beyond it are drawn anew; 0 for none")
    h_symmetry_time_pct: Fraction | None = Field(
        None, description="where in the run the left half is mirrored to the right, 0 to 1; 0 for nowhere"
    )
    v_symmetry_time_pct: Fraction | None = Field(
        None, description="where in the run the upper half is mirrored downwards, 0 to 1; 0 for nowhere"
    )
    seamless_x: bool | None = Field(None, description="left and right edges meet, as of a tile")
    seamless_y: bool | None = Field(None, description="upper and lower edges meet, as of a tile")
    cfg_rescale_multiplier: Fraction | None = Field(
        None, description="how far guidance is brought back to the prompt's own contrast, 0 to 1"
    )
    clip_skip: int | None = Field(None, ge=0, le=23, description="last layers of the text encoder that are left out")
    denoising_start: Fraction | None = Field(None, description="where the run begins, 0 to 1")
    denoising_end: Fraction | None = Field(None, description="where the run ends, 0 to 1")
    save_intermediates: int | None = Field(
        None, ge=0, le=1000, description="a picture of every so many steps, beside the result; 0 for none"
    )


class Variation(BaseModel):
    """Noises of other seeds that are mixed into the picture's own."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    synonyms: ClassVar[dict[str, str]] = {
        "variation_amount": "amount",
        "strength": "amount",
        "variations": "with",
        "with_variations": "with",
    }

    amount: Fraction = Field(0.0, description="how much of another seed is mixed into each image, 0 to 1")
    seed: Seed | None = Field(None, description="that other seed, for further images seed + 1, …; drawn if not given")
    listed: list[Weighted] = Field(
        default_factory=list, alias="with", max_length=1000, description="seeds and weights, mixed in one after another"
    )

    @model_validator(mode="after")
    def _seed_has_an_amount(self) -> Variation:
        if self.seed is not None and not self.amount:
            raise Mistake("seed stands without an amount.", "Add amount, or list it: with = [[seed, weight]].")
        return self


class RecordedModel(BaseModel):
    """The model that a resolved job was planned with."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    path: str
    base: str
    type: str = "main"
    hash: str = ""
    variant: str | None = None
    prediction_type: str | None = None


class Resolved(BaseModel):
    """What the daemon notes in the job.toml beside the images. A job may carry it; it asks nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    job: str
    file_name: str
    model: RecordedModel


class Job(Values):
    """A job as it was asked."""

    unlisted: ClassVar[frozenset[str]] = frozenset({_OWN_KEYS, "resolved"})
    not_yet: ClassVar[frozenset[str]] = frozenset(
        {"loras", "embeddings", "controlnets", "init", "mask", "outpaint", "sweep", "hires", "upscale", "face", "vae"}
    )

    kind: Literal["render"] = Field("render", description="what is to be done")
    prompt: Text = Field(description="what the picture shows", examples=["a red circle on a blue background"])
    seeds: list[Seed] | None = Field(
        None, min_length=1, max_length=1_000_000, description="one image for each, instead of seed and iterations"
    )
    variation: Variation | None = Field(None, description="noises of other seeds that are mixed into the picture's own")
    meta: OwnTable = Field(default_factory=dict, description="the user's own; carried into the result")
    own: OwnKeys = Field(default_factory=dict, validation_alias=_OWN_KEYS)
    resolved: Resolved | None = Field(None, description="notes of the daemon in a job.toml; they ask nothing")

    _source: Source = PrivateAttr(default_factory=Source)

    @model_validator(mode="before")
    @classmethod
    def _collect_own_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        own = {key: value for key, value in data.items() if key.startswith(OWN_PREFIX)}
        return {**{key: value for key, value in data.items() if key not in own}, _OWN_KEYS: own} if own else data

    @model_validator(mode="after")
    def _one_way_to_name_seeds(self) -> Job:
        if self.seeds is not None and (self.seed is not None or self.iterations is not None):
            raise Mistake("seeds stands beside seed or iterations.", "Keep seeds, or seed and iterations.", "seeds")
        return self

    @property
    def source(self) -> Source:
        """The file and the lines of the keys, for messages."""
        return self._source

    @property
    def carried(self) -> dict[str, Any]:
        """The user's own keys: `x-…` and `meta`."""
        return {**self.own, **({"meta": self.meta} if self.meta else {})}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a job file, for editors that complete and check TOML."""
    schema = Job.model_json_schema()
    properties = schema["properties"]
    properties.pop(_OWN_KEYS)
    for size in ("width", "height"):
        properties[size]["anyOf"][0]["multipleOf"] = 8
    properties["scheduler"]["anyOf"][0]["enum"] = [*SCHEDULERS, *ALIASES]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **schema,
        "title": "A job of invokeai-daemon",
        "patternProperties": {f"^{OWN_PREFIX}": {"description": "your own; carried into the result"}},
    }
