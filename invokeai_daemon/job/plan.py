"""Plan: a job after defaults and seeds are resolved, the frozen list of its images. The engine takes nothing else."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter

from invokeai_daemon.job.schema.adapters import ControlNet, IPAdapter, Lora, T2IAdapter
from invokeai_daemon.job.schema.pictures import Hires, Infill, Init, Mask, Outpaint, Refiner, Seam


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
    #: A VAE's name, instead of the model's own.
    vae: str | None = None
    #: What FLUX models that were distilled for guidance are told; None means what they usually are.
    guidance: float | None = None
    #: For SDXL's second text encoder alone; None means that it reads the prompts, too.
    style_prompt: str | None = None
    negative_style_prompt: str | None = None
    #: What is attached to the model. Names stand in `Plan.references`, pictures in `Plan.inputs`.
    loras: tuple[Lora, ...] = ()
    controlnets: tuple[ControlNet, ...] = ()
    t2i_adapters: tuple[T2IAdapter, ...] = ()
    ip_adapters: tuple[IPAdapter, ...] = ()
    #: What it is made from; width and height are those of the result, whatever the size of these pictures.
    init: Init | None = None
    init_color: str | None = None
    mask: Mask | None = None
    outpaint: Outpaint | None = None
    infill: Infill | None = None
    seam: Seam | None = None
    hires: Hires | None = None
    refiner: Refiner | None = None

    @property
    def company(self) -> Hashable:
        """Images of one model and size share forwards where this is equal."""
        return (
            self.seamless,
            self.loras,
            *(tuple(each.name for each in some) for some in (self.controlnets, self.t2i_adapters, self.ip_adapters)),
        )

    @property
    def seamless(self) -> tuple[bool, bool]:
        """Whether opposite edges meet, per axis: x, y."""
        return self.seamless_x, self.seamless_y

    @property
    def unusual(self) -> dict[str, Any]:
        """The values that are not as they are when nobody asks for anything, as JSON has them."""
        changed = {name for name, usual in USUAL.items() if getattr(self, name) != usual}
        return {name: value for name, value in self.as_json().items() if name in changed}

    def as_json(self) -> dict[str, Any]:
        """All values, as JSON has them; tables say what differs from their own defaults."""
        return _of(Image).dump_python(self, mode="json", exclude_none=True)  # type: ignore[no-any-return]


#: What an image's values are when nobody asks for anything, for those that have such a value.
USUAL: Mapping[str, Any] = MappingProxyType(
    {each.name: each.default for each in fields(Image) if each.default is not MISSING}
)


@dataclass(frozen=True)
class ModelRef:
    """A registered model that a plan uses, as it was when the job started."""

    name: str
    #: The diffusers folder, or the file of an adapter. Absolute.
    path: str
    base: str
    type: str = "main"
    #: "blake3:…" of the model's weights; results record it.
    hash: str = ""
    variant: str | None = None
    prediction_type: str | None = None
    #: What else a family needs to know of its file: checkpoint, diffusers, lycoris, …
    format: str = "diffusers"
    #: How the keys of a LoRA are written.
    dialect: str | None = None
    #: What the job called it: its name, a prefix of it, or its hash. Images call it by its name.
    asked: str = ""


@dataclass(frozen=True)
class Input:
    """A picture that a job names, as it was when the job started."""

    #: The path as the job gave it.
    asked: str
    #: The copy that is rendered with, relative to the folder of the results; images name it so.
    file: str
    #: "sha256:…" of its bytes.
    hash: str


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
    #: The other models that the images name: adapters, VAEs, …
    references: tuple[ModelRef, ...] = ()
    #: The pictures that the images name.
    inputs: tuple[Input, ...] = ()
    #: What the user may not expect: a sentence each, for the results.
    warnings: tuple[str, ...] = ()

    def find_reference(self, type: str, name: str) -> ModelRef | None:
        """The model that an image names, of a type: lora, vae, controlnet, …"""
        found = (each for each in self.references if each.type == type and name in (each.name, each.asked))
        return next(found, None)

    def reference(self, type: str, name: str) -> ModelRef:
        """The same, in a plan that has it."""
        found = self.find_reference(type, name)
        assert found is not None, f"the plan has no {type} {name}"
        return found

    def find_input(self, asked: str) -> Input | None:
        """The picture that an image names."""
        return next((each for each in self.inputs if asked in (each.file, each.asked)), None)

    def input(self, asked: str) -> Input:
        """The same, in a plan that has it."""
        found = self.find_input(asked)
        assert found is not None, f"the plan has no picture {asked}"
        return found

    def as_json(self) -> dict[str, Any]:
        return _of(Plan).dump_python(self, mode="json")  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        return _of(Plan).validate_python(data)  # type: ignore[no-any-return]


@cache
def _of(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
