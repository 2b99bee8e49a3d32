"""Plan: a job after defaults and seeds are resolved, the frozen list of its images. The engine takes nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
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
                "images": tuple(Image(**image) for image in data["images"]),
            }
        )
