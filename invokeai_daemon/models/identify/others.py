"""Others: kinds that are named so that their owners know what they have: motion modules, hypernetworks, detectors, …"""

from __future__ import annotations

from invokeai_daemon.models.identify.table import Family

FAMILIES: tuple[Family, ...] = ()
