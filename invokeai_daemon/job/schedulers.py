"""Schedulers by InvokeAI's names, 2.3's sampler names and AUTOMATIC1111's; the diffusers class of each. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Scheduler:
    """One scheduler by InvokeAI's name."""

    name: str
    #: diffusers' class, or ours where it has none.
    class_name: str
    #: What the class is given on top of the model's own scheduler config.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: AUTOMATIC1111's sampler name; empty where it has none.
    a1111: str = ""

    @property
    def is_karras(self) -> bool:
        return self.name.endswith("_k")


def _with_karras(
    name: str, class_name: str, a1111: str, options: Mapping[str, Any] | None = None
) -> tuple[Scheduler, Scheduler]:
    """A scheduler and its `_k` twin, which spaces its noise levels after Karras et al."""
    plain = {**(options or {}), "use_karras_sigmas": False}
    karras = {**plain, "use_karras_sigmas": True}
    return Scheduler(name, class_name, plain, a1111), Scheduler(f"{name}_k", class_name, karras, a1111)


#: Every scheduler name of InvokeAI 6, in its order.
TABLE = (
    Scheduler("ddim", "DDIMScheduler", {}, "DDIM"),
    Scheduler("ddpm", "DDPMScheduler", {}),
    *_with_karras("deis", "DEISMultistepScheduler", "DEIS"),
    *_with_karras("lms", "LMSDiscreteScheduler", "LMS"),
    Scheduler("pndm", "PNDMScheduler", {}, "PLMS"),
    *_with_karras("heun", "HeunDiscreteScheduler", "Heun"),
    *_with_karras("euler", "EulerDiscreteScheduler", "Euler"),
    Scheduler("euler_a", "EulerAncestralDiscreteScheduler", {}, "Euler a"),
    *_with_karras("kdpm_2", "KDPM2DiscreteScheduler", "DPM2"),
    *_with_karras("kdpm_2_a", "KDPM2AncestralDiscreteScheduler", "DPM2 a"),
    *_with_karras("dpmpp_2s", "DPMSolverSinglestepScheduler", "DPM++ 2S", {"solver_order": 2}),
    *_with_karras("dpmpp_2m", "DPMSolverMultistepScheduler", "DPM++ 2M", {"solver_order": 2}),
    *_with_karras(
        "dpmpp_2m_sde",
        "DPMSolverMultistepScheduler",
        "DPM++ 2M SDE",
        {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"},
    ),
    *_with_karras("dpmpp_3m", "DPMSolverMultistepScheduler", "DPM++ 3M", {"solver_order": 3}),
    *_with_karras("dpmpp_sde", "DPMSolverSDEScheduler", "DPM++ SDE"),
    Scheduler("er_sde", "ERSDEScheduler"),
    *_with_karras("unipc", "UniPCMultistepScheduler", "UniPC"),
    Scheduler("lcm", "LCMScheduler", {}, "LCM"),
    Scheduler("tcd", "TCDScheduler", {}, "TCD"),
)

BY_NAME: Mapping[str, Scheduler] = MappingProxyType({scheduler.name: scheduler for scheduler in TABLE})
SCHEDULERS: tuple[str, ...] = tuple(BY_NAME)

#: The same names for models that follow a flow from noise to picture, which other schedulers cannot.
FLOW: Mapping[str, Scheduler] = MappingProxyType(
    {
        name: Scheduler(name, class_name, a1111=BY_NAME[name].a1111)
        for name, class_name in (("euler", "FlowEuler"), ("heun", "FlowHeun"), ("lcm", "FlowLCM"))
    }
)
#: The bases of such models.
FLOW_BASES = frozenset({"sd-3", "flux"})


def schedulers_of(base: str) -> Mapping[str, Scheduler]:
    """The schedulers that models of a base can be rendered with, by name."""
    return FLOW if base in FLOW_BASES else BY_NAME


#: InvokeAI 2.3's sampler names, and how its successors read them.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "plms": "pndm",
        "k_lms": "lms",
        "k_euler": "euler",
        "k_euler_a": "euler_a",
        "k_heun": "heun",
        "k_dpm_2": "kdpm_2",
        "k_dpm_2_a": "kdpm_2_a",
        "k_dpmpp_2": "dpmpp_2m",
        "dpmpp_2": "dpmpp_2m",
    }
)
#: The names that 2.3 itself knows, for command lines that go back to it.
SAMPLERS_23: Mapping[str, str] = MappingProxyType(
    {
        "ddim": "ddim",
        "pndm": "plms",
        **{name: alias for alias, name in ALIASES.items() if alias.startswith("k_")},
    }
)


def canonical(name: str) -> str | None:
    """InvokeAI's name for a scheduler given by that name or by a 2.3 sampler name; None when it is neither."""
    folded = name.strip().casefold()
    return folded if folded in BY_NAME else ALIASES.get(folded)


def a1111_words(name: str) -> tuple[str, str]:
    """The sampler and the schedule type that AUTOMATIC1111 calls this scheduler: ("DPM++ 2M", "Karras")."""
    scheduler = BY_NAME[name]
    return scheduler.a1111 or name, "Karras" if scheduler.is_karras else "Automatic"


def from_a1111(sampler: str, schedule: str = "") -> str | None:
    """The scheduler that AUTOMATIC1111 means; None when there is none.

    Versions before 1.9 wrote the schedule into the sampler's name: "DPM++ 2M Karras".
    """
    words = sampler.strip()
    is_karras = schedule.strip().casefold() == "karras" or words.endswith(" Karras")
    words = words.removesuffix(" Karras")
    for scheduler in TABLE:
        if scheduler.is_karras == is_karras and words.casefold() == (scheduler.a1111 or scheduler.name).casefold():
            return scheduler.name
    return canonical(sampler)
