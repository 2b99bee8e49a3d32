"""Usual: what a picture gets of the kind of its model when nobody says: its size, its steps, how it is guided. A table.

Read by the planner, for test pictures, and by the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Usual:
    """What is usual for the models of a kind."""

    #: Pixels of each side that they were trained at.
    side: int = 512
    steps: int = 30
    #: 1 for those that are guided by a number that they are told, or not at all.
    cfg_scale: float = 7.5
    #: That number; None for those that are told none.
    guidance: float | None = None


_SD_3 = Usual(side=1024, steps=28, cfg_scale=4.5)
_FLUX = Usual(side=1024, steps=28, cfg_scale=1, guidance=3.5)
#: By base, and variant or prediction type where those differ.
TABLE: Mapping[tuple[str, str | None], Usual] = MappingProxyType(
    {
        ("sd-1", None): Usual(),
        ("sd-2", None): Usual(),
        ("sd-2", "v_prediction"): Usual(side=768),
        ("sdxl", None): Usual(side=1024),
        ("sdxl-refiner", None): Usual(side=1024),
        ("sd-3", None): _SD_3,
        ("sd-3", "large"): Usual(side=1024, steps=28, cfg_scale=3.5),
        ("flux", None): _FLUX,
        ("flux", "schnell"): Usual(side=1024, steps=4, cfg_scale=1),
        ("flux", "dev_fill"): Usual(side=1024, steps=28, cfg_scale=1, guidance=30.0),
    }
)


def usual(base: str, variant: str | None = None, prediction_type: str | None = None) -> Usual:
    """What is usual for a model."""
    keys = [*((base, word) for word in (variant, prediction_type) if word is not None), (base, None)]
    return next((TABLE[key] for key in keys if key in TABLE), Usual())
