"""Modules: which parameters of a loaded model the layers of a LoRA's file mean, under whatever names.

A file uses the names of diffusers and transformers, or the original ones of the single-file checkpoint; what these
became is in the tables of conversion, read for the model at hand. Called once for each model that wears a LoRA.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from invokeai_daemon.models.convert.families import FAMILIES
from invokeai_daemon.models.convert.layout import Part, Rename
from invokeai_daemon.models.identify.lora.layers import Measure
from invokeai_daemon.models.identify.lora.names import placed

Shape = tuple[int, ...]
#: Modules that trainers give other names: the end of the name -> that in the file. XLabs numbers the streams of FLUX.
_ALSO = (
    ("_to_out_0", "_to_out"),
    ("_img_attn_qkv", "_qkv1"),
    ("_txt_attn_qkv", "_qkv2"),
    ("_img_attn_proj", "_proj1"),
    ("_txt_attn_proj", "_proj2"),
)


@dataclass(frozen=True)
class Spot:
    """Where a layer of a file goes."""

    #: The module in the model.
    module: str
    #: The shape of the weight of the layer in the file.
    shape: Shape
    #: The rows of that weight (first, count) that the module has; none for all.
    rows: tuple[tuple[int, int], ...] = ()

    def fits(self, measure: Measure) -> bool:
        """Whether a change of this size can be made here."""
        rows, columns, is_spatial, either = measure
        if either is not None:
            return either in self.shape[:2]
        if rows is not None and rows != self.shape[0]:
            return False
        if columns is None or len(self.shape) < 2:
            return columns is None
        return columns == (self.shape[1] if is_spatial else math.prod(self.shape[1:]))


#: By the name of a layer in a file, without its prefix and with underscores for dots.
Spots = Mapping[str, tuple[Spot, ...]]


def spots_of(model: nn.Module, base: str | None = None, folder: str = "") -> Spots:
    """Where the layers go that a file may have for a model; base and folder name its table of original names."""
    shapes = {
        name.removesuffix(".weight"): tuple(parameter.shape)
        for name, parameter in model.named_parameters()
        if name.endswith(".weight")
    }
    spots: dict[str, tuple[Spot, ...]] = {}
    spots.update(_originals(model, base, folder))
    for name, shape in shapes.items():
        spots[name.replace(".", "_") if base else placed(f"text_encoder.{name}").module] = (Spot(name, shape),)
    for known, several in list(spots.items()):
        for ours, theirs in _ALSO:
            if known.endswith(ours):
                spots.setdefault(known.removesuffix(ours) + theirs, several)
    return spots


def _originals(model: Any, base: str | None, folder: str) -> Iterator[tuple[str, tuple[Spot, ...]]]:
    part = _part(base, folder)
    if part is None:
        return
    gathered: dict[str, list[tuple[Rename, Spot]]] = {}
    for rename in part.from_config(model.config).renames():
        sources = {rows.source for rows in rename.rows}
        if rename.target.endswith(".weight") and not rename.transposed and len(sources) == 1:
            source = sources.pop().removesuffix(".weight").replace(".", "_")
            gathered.setdefault(source, []).append((rename, _spot(rename)))
    for source, several in gathered.items():
        yield source, tuple(spot for _, spot in several)
        if len(several) > 1:
            # Some trainers split a fused projection and number its parts.
            in_order = sorted(several, key=lambda each: each[1].rows)
            for number, (rename, spot) in enumerate(in_order):
                yield f"{source}_{number}", (Spot(spot.module, rename.shape),)


def _spot(rename: Rename) -> Spot:
    whole = rename.rows[0].shape
    rows = tuple((each.first, whole[0] - each.first if each.count is None else each.count) for each in rename.rows)
    return Spot(rename.target.removesuffix(".weight"), whole, () if rows == ((0, whole[0]),) else rows)


def _part(base: str | None, folder: str) -> type[Part] | None:
    """The table of a part of a family, where single files of that family are converted."""
    for family in FAMILIES:
        for component in family.components:
            if (family.base, family.type, component.name) == (base, "main", folder) and component.layouts:
                return component.layouts[0].part
    return None
