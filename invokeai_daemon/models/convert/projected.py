"""CLIP text encoders with their projection, under transformers' own names, as the files of SD-3 keep them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from invokeai_daemon.models.convert.clip import Clip
from invokeai_daemon.models.convert.layout import Rename, Shapes, identity_matrix, renamed

PROJECTION = "text_projection.weight"


@dataclass(frozen=True)
class ProjectedClip(Clip):
    """CLIP-L. Files without a projection were made for one that changes nothing."""

    signature: ClassVar[str] = "text_model.encoder.layers."

    #: Width of the pooled text; None where the file has no projection.
    projection: int | None = None

    @classmethod
    def infer(cls, shapes: Shapes) -> Self:
        inner = {name.removeprefix("text_model."): shape for name, shape in shapes.items()}
        found = shapes.get(PROJECTION)
        return replace(super().infer(inner), projection=found[0] if found else None)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return replace(super().from_config(config), projection=config["projection_dim"])

    def config(self) -> dict[str, Any]:
        pooled = self.width if self.projection is None else self.projection
        return {**super().config(), "architectures": ["CLIPTextModelWithProjection"], "projection_dim": pooled}

    def renames(self) -> Iterator[Rename]:
        for rename in super().renames():
            yield renamed(rename.target, rename.target, rename.shape)
        if self.projection is None:
            yield identity_matrix(PROJECTION, self.width)
        else:
            yield renamed(PROJECTION, PROJECTION, (self.projection, self.width))


@dataclass(frozen=True)
class LargeProjectedClip(ProjectedClip):
    """CLIP-G, which was trained with another activation."""

    def config(self) -> dict[str, Any]:
        return {**super().config(), "hidden_act": "gelu"}
