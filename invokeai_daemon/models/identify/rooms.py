"""Rooms: the rows of all tables of identification, in one tuple. Their order says nothing."""

from __future__ import annotations

from invokeai_daemon.models.identify import control, embedding, encoders, lora, main, others, upscalers, vae
from invokeai_daemon.models.identify.table import Family

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
