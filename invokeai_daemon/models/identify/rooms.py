"""Rooms: the rows of all tables of identification, in one tuple. Their order says nothing.

Called by `identify` and `folders` with the names of a file.
"""

from __future__ import annotations

from invokeai_daemon.models.identify import control, embedding, encoders, lora, main, others, upscalers, vae
from invokeai_daemon.models.identify.table import Family, Match
from invokeai_daemon.models.identify.weights import Weights

FAMILIES: tuple[Family, ...] = (
    *main.FAMILIES,
    *lora.FAMILIES,
    *embedding.FAMILIES,
    *vae.FAMILIES,
    *control.FAMILIES,
    *encoders.FAMILIES,
    *upscalers.FAMILIES,
    *others.FAMILIES,
)


def matches_of(weights: Weights) -> list[Match]:
    """Every row held against a file."""
    # What consists of changes to layers has their names, and would seem to be the model that they change.
    families = lora.FAMILIES if lora.only_changes(weights) else FAMILIES
    return [family.held_against(weights) for family in families]
