"""What a job file may say. A `Job` is what was asked; `None` means not asked. Plans come from it, see plan_job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from invokeai_daemon.job.schedulers import ALIASES, SCHEDULERS
from invokeai_daemon.job.schema.adapters import ControlNet, IPAdapter, Lora, T2IAdapter
from invokeai_daemon.job.schema.pictures import Hires, Infill, Init, Mask, Outpaint, Refiner, Seam
from invokeai_daemon.job.schema.run import Resolved, Variation
from invokeai_daemon.job.schema.values import Values
from invokeai_daemon.job.schema.words import PicturePath, Seed, Text, plain
from invokeai_daemon.strict_toml import Mistake

#: Keys that start with this are the user's own.
OWN_PREFIX = "x-"
#: Where `Job` collects them; no key of a file can be in its way, since this one is the user's own too.
_OWN_KEYS = OWN_PREFIX


OwnTable = Annotated[dict[str, Any], BeforeValidator(partial(plain, path="meta"))]
OwnKeys = Annotated[dict[str, Any], BeforeValidator(plain)]


@dataclass(frozen=True)
class Source:
    """Where a job was read; no part of what it asks, so jobs from different files can be equal."""

    where: str = field(default="the job", compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)


class Job(Values):
    """A job as it was asked."""

    unlisted: ClassVar[frozenset[str]] = frozenset({_OWN_KEYS, "resolved"})
    not_yet: ClassVar[frozenset[str]] = frozenset({"sweep", "upscale", "face"})

    kind: Literal["render"] = Field("render", description="what is to be done")
    prompt: Text = Field(description="what the picture shows", examples=["a red circle on a blue background"])
    seeds: list[Seed] | None = Field(
        None, min_length=1, max_length=1_000_000, description="one image for each, instead of seed and iterations"
    )
    variation: Variation | None = Field(None, description="noises of other seeds that are mixed into the picture's own")
    style_prompt: Text | None = Field(None, description="for SDXL's second text encoder alone; else it reads prompt")
    negative_style_prompt: Text | None = Field(None, description="the same of negative_prompt")
    loras: list[Lora] = Field(default_factory=list, max_length=100, description="LoRAs and their weights")
    controlnets: list[ControlNet] = Field(default_factory=list, max_length=20, description="pictures to follow")
    t2i_adapters: list[T2IAdapter] = Field(default_factory=list, max_length=20, description="pictures to follow")
    ip_adapters: list[IPAdapter] = Field(default_factory=list, max_length=20, description="pictures as prompts")
    init: Init | None = Field(None, description="the picture to start from: img2img")
    init_color: PicturePath | None = Field(None, description="a picture whose colours the result gets")
    mask: Mask | None = Field(None, description="the part of the init image that is painted anew: inpainting")
    outpaint: Outpaint | None = Field(None, description="how far the init image is extended")
    infill: Infill | None = Field(None, description="what transparent parts are filled with before they are painted")
    seam: Seam | None = Field(None, description="a second pass over the border between old and new")
    hires: Hires | None = Field(None, description="two passes: made small, then enlarged and refined")
    refiner: Refiner | None = Field(None, description="SDXL's refiner makes the end of the run")
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

    @model_validator(mode="after")
    def _hires_is_from_text(self) -> Job:
        if self.hires is not None and self.init is not None:
            raise Mistake("stands beside init; it makes pictures from text.", "Keep one of them.", "hires")
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
