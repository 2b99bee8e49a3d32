"""Embedding: the vectors of a textual inversion."""

from __future__ import annotations

from invokeai_daemon.models.identify.table import Answer, Choice, Family, axis
from invokeai_daemon.models.identify.weights import Weights


def _few_vectors(weights: Weights) -> Answer:
    shapes = {weights.tensor(name).shape for name in weights.names}
    few = 0 < len(weights) <= 9 and all(1 <= len(shape) <= 2 for shape in shapes)
    return Answer(few, f"it has {len(weights)} tensors" if not few else "")


FAMILIES: tuple[Family, ...] = (
    Family(
        "embedding",
        Choice(
            tuple(
                (base, axis("*", -1, width, called="vectors of width"))
                for base, width in (("sd-1", 768), ("sd-2", 1024), ("sdxl", 1280))
            )
        ),
        "a textual inversion embedding",
        marks=(_few_vectors, axis("*", -1, 768, 1024, 1280, called="vectors of width")),
        format="embedding_file",
    ),
)
