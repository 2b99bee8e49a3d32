"""Main models: the rows of the tables `main_unet`, `main_relatives`, `main_dit`, `main_named` and `main_video`."""

from __future__ import annotations

from invokeai_daemon.models.identify import main_dit, main_named, main_relatives, main_unet, main_video
from invokeai_daemon.models.identify.table import Family

FAMILIES: tuple[Family, ...] = (
    *main_unet.FAMILIES,
    *main_relatives.FAMILIES,
    *main_dit.FAMILIES,
    *main_named.FAMILIES,
    *main_video.FAMILIES,
)
