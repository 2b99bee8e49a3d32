"""Plan: a job after defaults and seeds are resolved, the frozen list of its images. The engine takes nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Image:
    """One picture of a job, with everything resolved."""

    #: 1-based place in the job.
    number: int
    #: 0 … 2³²−1
    seed: int
    prompt: str
    negative_prompt: str
    #: Pixels, a multiple of 8.
    width: int
    height: int
    #: Denoising steps, at least 1.
    steps: int
    #: Guidance; 1 means none.
    cfg_scale: float
    #: One of InvokeAI's scheduler names.
    scheduler: str
    #: How the prompts are read: "invokeai", "a1111" or "plain".
    prompt_syntax: str = "invokeai"
    #: The result says into which tokens the prompts were split.
    log_tokenization: bool = False
    #: (seed, weight) of noises that are mixed into the seed's own, one after the other.
    variations: tuple[tuple[int, float], ...] = ()
    #: Share of Perlin noise in all noise, 0 … 1.
    perlin: float = 0.0
    #: Latents beyond this are drawn anew; 0 means none are.
    threshold: float = 0.0
    #: Where in the run, 0 … 1, the left half is mirrored to the right, and the upper half downwards; 0 means nowhere.
    h_symmetry_time_pct: float = 0.0
    v_symmetry_time_pct: float = 0.0
    #: True where opposite edges shall meet: left and right; top and bottom.
    seamless_x: bool = False
    seamless_y: bool = False
    #: How far guidance is brought back to the spread of the prompt's own prediction, 0 … 1.
    cfg_rescale_multiplier: float = 0.0
    #: Last layers of the text encoder that are left out.
    clip_skip: int = 0
    #: The part of the run that is made, 0 … 1.
    denoising_start: float = 0.0
    denoising_end: float = 1.0
    #: Every so many steps a picture of the step is kept; 0 means never.
    save_intermediates: int = 0

    @property
    def seamless(self) -> tuple[bool, bool]:
        """Whether opposite edges meet, per axis: x, y."""
        return self.seamless_x, self.seamless_y

    @property
    def unusual(self) -> dict[str, Any]:
        """The values that are not as they are when nobody asks for anything."""
        return {name: getattr(self, name) for name, usual in USUAL.items() if getattr(self, name) != usual}


#: What an image's values are when nobody asks for anything, for those that have such a value.
USUAL: Mapping[str, Any] = MappingProxyType(
    {each.name: each.default for each in fields(Image) if each.default is not MISSING}
)


@dataclass(frozen=True)
class ModelRef:
    """The registered model that a plan uses, as it was when the job started."""

    name: str
    #: The diffusers folder, absolute.
    path: str
    base: str
    type: str = "main"
    #: "blake3:…" of the model's weights; results record it.
    hash: str = ""
    variant: str | None = None
    prediction_type: str | None = None


@dataclass(frozen=True)
class Plan:
    """The frozen list of the images of one job."""

    job_id: str
    model: ModelRef
    images: tuple[Image, ...]
    #: −1000 … 1000, higher runs first.
    priority: int = 0
    #: File name template of the results.
    file_name: str = "{number:04}.{seed}.png"
    #: The user's own `x-*` keys and `[meta]` table, carried into the results.
    meta: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        return cls(
            **{
                **data,
                "model": ModelRef(**data["model"]),
                "images": tuple(_image(image) for image in data["images"]),
            }
        )


def _image(data: dict[str, Any]) -> Image:
    return Image(**{**data, "variations": tuple((seed, weight) for seed, weight in data.get("variations", ()))})
