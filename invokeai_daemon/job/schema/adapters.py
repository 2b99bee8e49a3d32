"""What a job attaches to its model: LoRAs, ControlNets, T2I-Adapters, IP-Adapters. Each may stand there many times."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from invokeai_daemon.job.schema.words import Fraction, Name, PicturePath, Table
from invokeai_daemon.strict_toml import Mistake

_SYNONYMS = {"model": "name", "strength": "weight", "scale": "weight"}


class Lora(Table):
    """A LoRA, or one of its kin."""

    synonyms: ClassVar[dict[str, str]] = {**_SYNONYMS, "te_weight": "text_encoder_weight"}

    name: Name = Field(description="of a LoRA in models.yaml")
    weight: float | None = Field(None, ge=-10, le=10, description="1 unless the LoRA has a default weight of its own")
    text_encoder_weight: float | None = Field(None, ge=-10, le=10, description="of its text encoder part; else weight")


class _During(Table):
    """Something that counts in a part of the run."""

    begin: Fraction = Field(0.0, description="where in the run it begins to count, 0 to 1")
    end: Fraction = Field(1.0, description="where in the run it ceases to count, 0 to 1")

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> _During:
        if self.begin >= self.end:
            raise Mistake(f"it would begin at {self.begin:g} and end at {self.end:g}.", "Let begin be less than end.")
        return self


class _ControlledBy(_During):
    """Something that follows the outlines, depths or poses of a picture."""

    synonyms: ClassVar[dict[str, str]] = {
        **_SYNONYMS,
        "begin_step_percent": "begin",
        "end_step_percent": "end",
        "preprocessor": "processor",
    }

    name: Name = Field(description="of a model of that type in models.yaml")
    image: PicturePath = Field(description="the picture that is followed")
    weight: float = Field(1.0, ge=-1, le=2, description="how much it counts")
    resize_mode: Literal["just_resize", "crop_resize", "fill_resize", "just_resize_simple"] = Field(
        "just_resize", description="how the picture is brought to the size of the result"
    )
    processor: Name | None = Field(
        None, description='what makes lines, depths, … of the picture; "none" for a picture that is ready'
    )
    processor_options: dict[str, Any] = Field(default_factory=dict, description="of the processor")


class ControlNet(_ControlledBy):
    """A ControlNet."""

    control_mode: Literal["balanced", "more_prompt", "more_control", "unbalanced"] = Field(
        "balanced", description="whether the prompt or the control counts more"
    )


class T2IAdapter(_ControlledBy):
    """A T2I-Adapter."""


class IPAdapter(_During):
    """An IP-Adapter: a picture as a prompt."""

    synonyms: ClassVar[dict[str, str]] = {**_SYNONYMS, "begin_step_percent": "begin", "end_step_percent": "end"}

    name: Name = Field(description="of an IP-Adapter in models.yaml")
    image: PicturePath = Field(description="the picture that is like a prompt")
    weight: float = Field(1.0, ge=-1, le=2, description="how much it counts")
    method: Literal["full", "style", "composition", "style_strong", "style_precise"] = Field(
        "full", description="what of the picture counts"
    )
    image_encoder: Name | None = Field(None, description="a model of type clip_vision; else the one that fits")
