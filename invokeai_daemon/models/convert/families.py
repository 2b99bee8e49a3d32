"""Families: all that can be converted. A new family is a table in a module of its own, named here."""

from __future__ import annotations

from invokeai_daemon.models.convert.alone import CONTROLNETS, VAES
from invokeai_daemon.models.convert.family import Family
from invokeai_daemon.models.convert.flow import FLOW_VAES, FLUX, SD_3
from invokeai_daemon.models.convert.sd import SD1, SD2
from invokeai_daemon.models.convert.sdxl import REFINER, SDXL
from invokeai_daemon.models.header import Header
from invokeai_daemon.models.identity import Identity

FAMILIES: tuple[Family, ...] = (SD1, SD2, SDXL, REFINER, SD_3, FLUX, *VAES, *FLOW_VAES, *CONTROLNETS)


def family_of(identity: Identity) -> Family | None:
    """The family that converts such models; None when they are not converted."""
    for family in FAMILIES:
        if (family.base, family.type) == (identity.base, identity.type):
            return family
    return None


def is_convertible(header: Header, identity: Identity) -> bool:
    """Whether there is a table for this file: its family has one, and the file keeps some part as the table says."""
    family = family_of(identity)
    if family is None:
        return False
    components = family.of_variant(identity.variant)
    return any(layout.fits(header.tensors) for component in components for layout in component.layouts)
