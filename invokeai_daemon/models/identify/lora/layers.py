"""Layers: which kind of change a group of tensors makes, and how wide the layer is that it changes.

A kind is known by the leaves that are there. From the factors' shapes follow the rows and columns of their product,
which are those of the layer in the model: what the base is told by. Used by `facts`; pure arithmetic on shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

Shape = tuple[int, ...]
Leaves = Mapping[str, Shape]


class Measure(NamedTuple):
    """The size of the layer that is changed; None where the factors do not tell."""

    rows: int | None = None
    columns: int | None = None
    #: The change is a convolution's, its columns counted per pixel of the kernel.
    spatial: bool = False
    #: One of the two is known and it may be either (IA3).
    either: int | None = None


class Layer(NamedTuple):
    """One changed layer."""

    kind: str
    #: Rank of the factors; 0 where there is none.
    rank: int
    measure: Measure
    #: Why the factors cannot be multiplied; empty when they can.
    broken: str = ""


NOTHING = Measure()

#: Kinds that are recognised and cannot be applied.
UNUSABLE = ("OFT", "BOFT", "GLoRA", "T-LoRA", "VeRA")


def layer(leaves: Leaves) -> Layer | None:
    """The kind and size of the change that these tensors make together; None when they make none."""
    for kind, marks, read in _KINDS:
        if not marks.isdisjoint(leaves):
            rank, measure, broken = read(leaves)
            return Layer(_named(kind, leaves, measure), rank, measure, broken)
    if leaves.keys() >= _GLORA:
        rank, measure, broken = _glora(leaves)
        return Layer("GLoRA", rank, measure, broken)
    return None


def _named(kind: str, leaves: Leaves, measure: Measure) -> str:
    if kind == "OFT" and len(leaves["oft"]) == 4:
        return "BOFT"
    if "magnitude" in leaves:
        return "DoRA" if kind == "LoRA" else f"{kind} (DoRA)"
    return "LoCon" if kind == "LoRA" and measure.spatial else kind


#: Names as short as a1.weight say something only together.
_GLORA = frozenset({"glora_a1", "glora_a2", "glora_b1", "glora_b2"})

#: Rank, measure, and what is wrong.
_Read = tuple[int, Measure, str]


def _lora(leaves: Leaves) -> _Read:
    down, up = leaves.get("down"), leaves.get("up")
    spatial = bool(down and len(down) > 2) or "mid" in leaves
    rank = down[0] if down else (up[1] if up and len(up) > 1 else 0)
    columns = down[1] if down and len(down) > 1 else None
    if down and up and len(up) > 1 and not _fit(down[0], up[1]):
        return rank, Measure(up[0], columns, spatial), f"its factors have ranks {down[0]} and {up[1]}"
    return rank, Measure(up[0] if up else None, columns, spatial), ""


def _fit(one: int, other: int) -> bool:
    """Ranks agree, or one factor of a fused projection stands for several of the other."""
    return one == other or (one > 0 and other > 0 and max(one, other) % min(one, other) == 0)


def _loha(leaves: Leaves) -> _Read:
    first, second = leaves.get("hada_w1_a", ()), leaves.get("hada_w1_b", ())
    if len(first) < 2 or len(second) < 2:
        return 0, NOTHING, "one of its factors is missing"
    if "hada_t1" in leaves:
        # A Tucker decomposition: both factors stand with the rank first, the kernel is in t1.
        return first[0], Measure(first[1], second[1], True), ""
    return first[1], Measure(first[0], second[1]), ""


def _lokr(leaves: Leaves) -> _Read:
    one, two = leaves.get("lokr_w1"), leaves.get("lokr_w2")
    rank = 0
    if one is None:
        a, b = leaves.get("lokr_w1_a", ()), leaves.get("lokr_w1_b", ())
        if len(a) < 2 or len(b) < 2:
            return 0, NOTHING, "one of its factors is missing"
        one, rank = (a[0], b[1]), a[1]
    spatial = False
    if two is None:
        a, b = leaves.get("lokr_w2_a", ()), leaves.get("lokr_w2_b", ())
        if len(a) < 2 or len(b) < 2:
            return 0, NOTHING, "one of its factors is missing"
        rank = b[0]
        spatial = "lokr_t2" in leaves
        two = (a[1] if spatial else a[0], b[1])
    if len(one) < 2 or len(two) < 2:
        return rank, NOTHING, "one of its factors is no matrix"
    return rank, Measure(one[0] * two[0], one[1] * two[1], spatial or len(two) > 2), ""


def _full(leaves: Leaves) -> _Read:
    diff = leaves.get("diff")
    if not diff:
        bias = leaves.get("diff_b")
        return 0, Measure(bias[0] if bias else None), ""
    if len(diff) == 1:
        return 0, Measure(diff[0]), ""
    return 0, Measure(diff[0], diff[1], len(diff) > 2), ""


def _ia3(leaves: Leaves) -> _Read:
    weight = leaves.get("weight") or leaves.get("ia3") or ()
    return 0, Measure(either=max(weight, default=None)), "" if weight else "its weight is missing"


def _norm(leaves: Leaves) -> _Read:
    return 0, Measure(leaves["w_norm"][0] if leaves["w_norm"] else None), ""


def _oft(leaves: Leaves) -> _Read:
    blocks = leaves["oft"]
    return 0, Measure(math.prod(blocks[-3:-1]) if len(blocks) in (3, 4) else None), ""


def _glora(leaves: Leaves) -> _Read:
    first, last = leaves.get("glora_b1", ()), leaves.get("glora_b2", ())
    if len(first) < 2 or len(last) < 2:
        return 0, NOTHING, "one of its factors is missing"
    return first[0], Measure(last[0], first[1], len(first) > 2), ""


def _unmeasured(leaves: Leaves) -> _Read:
    return 0, NOTHING, ""


#: In the order in which they are looked for: the leaves that make the kind, and how it is measured.
_KINDS: tuple[tuple[str, frozenset[str], Callable[[Leaves], _Read]], ...] = (
    ("LoRA", frozenset({"down", "up"}), _lora),
    ("LoHa", frozenset({"hada_w1_a"}), _loha),
    ("LoKr", frozenset({"lokr_w1", "lokr_w1_a"}), _lokr),
    ("IA3", frozenset({"on_input", "ia3"}), _ia3),
    ("Norm", frozenset({"w_norm"}), _norm),
    ("Full", frozenset({"diff", "diff_b"}), _full),
    ("OFT", frozenset({"oft"}), _oft),
    ("BOFT", frozenset({"boft"}), _unmeasured),
    ("T-LoRA", frozenset({"tlora"}), _unmeasured),
    ("VeRA", frozenset({"vera"}), _unmeasured),
)
