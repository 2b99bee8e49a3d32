"""Changes: what each kind of LoRA adds to a weight, with InvokeAI's formulas. Pure arithmetic on tensors.

W' = W + weight · scale · ΔW, in float32. Called by `patches.py` for each parameter that a LoRA changes; which tensors
belong together and to which layer is settled before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

#: The tensors of one layer of a file, by what they are in it: "down", "up", "hada_w1_a", …
Leaves = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Change:
    """What one layer of a LoRA does to one parameter."""

    #: "LoRA", "LoKr (DoRA)", …; "bias" for a vector that is added as it is.
    kind: str
    leaves: Leaves
    #: alpha / rank, or 1.
    scale: float = 1.0
    #: Of the layer as the file has it, the rows (first, count) that make up the parameter; none for all.
    rows: tuple[tuple[int, int], ...] = ()

    def add_to(self, changed: Tensor, original: Tensor, weight: float) -> None:
        """Add so much of the change of the original weight to one in float32."""
        if self.is_product:
            up, down = self.product(weight, changed.device)
            changed.view(len(changed), -1).addmm_(up, down)
            return
        delta = self._delta(original.float())
        changed.add_(_cut(delta, self.rows).reshape(changed.shape), alpha=weight)

    @property
    def is_product(self) -> bool:
        """Whether it is the product of two matrices, as nearly always, and need not be computed before it is added."""
        return self.kind in PLAIN and self.leaves.keys().isdisjoint(INVOLVED)

    def product(self, weight: float, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """The matrices, in float32, whose product is so much of the change."""
        up, down = _matching(self._on(device or torch.device("cpu")))
        return _cut(up, self.rows) * (weight * self.scale), down

    def _delta(self, original: Tensor) -> Tensor:
        leaves = self._on(original.device)
        kind, _, decomposed = self.kind.partition(" ")
        if kind == "DoRA":
            kind, decomposed = "LoRA", "(DoRA)"
        delta = DELTAS[kind](leaves, original) * self.scale
        if "bias_indices" in leaves:
            delta = delta + _scattered(leaves).reshape(delta.shape)
        return _decomposed(delta, leaves, original) if decomposed else delta

    def _on(self, device: torch.device) -> Leaves:
        words = {leaf: tensor.to(device) for leaf, tensor in self.leaves.items()}
        return {leaf: each.float() if each.is_floating_point() else each for leaf, each in words.items()}


def _scattered(leaves: Leaves) -> Tensor:
    """What was left of a weight beside its factors, written as the few numbers that are not zero."""
    size = [int(side) for side in leaves["bias_size"]]
    return torch.sparse_coo_tensor(leaves["bias_indices"].long(), leaves["bias_values"], size).to_dense()


def _cut(delta: Tensor, rows: tuple[tuple[int, int], ...]) -> Tensor:
    return torch.cat([delta[first : first + count] for first, count in rows]) if rows else delta


# Kinds


def _lora(leaves: Leaves, original: Tensor) -> Tensor:
    if "mid" in leaves:
        up, down = leaves["up"].flatten(1), leaves["down"].flatten(1)
        return torch.einsum("mnwh,im,nj->ijwh", leaves["mid"], up, down)
    up, down = _matching(leaves)
    return up @ down


def _matching(leaves: Leaves) -> tuple[Tensor, Tensor]:
    """Both factors as matrices. Where one rank is a multiple of the other, each part of it meets the whole other."""
    up, down = leaves["up"].flatten(1), leaves["down"].flatten(1)
    parts, rest = len(down) // up.shape[1], up.shape[1] // len(down)
    if parts > 1:
        return up, torch.stack(down.chunk(parts)).sum(dim=0)
    if rest > 1:
        return torch.stack(up.chunk(rest, dim=1)).sum(dim=0), down
    return up, down


def _loha(leaves: Leaves, original: Tensor) -> Tensor:
    first, second = (
        _tucker(leaves[f"hada_t{n}"], leaves[f"hada_w{n}_a"], leaves[f"hada_w{n}_b"])
        if f"hada_t{n}" in leaves
        else leaves[f"hada_w{n}_a"] @ leaves[f"hada_w{n}_b"]
        for n in (1, 2)
    )
    return first * second


def _lokr(leaves: Leaves, original: Tensor) -> Tensor:
    first = leaves["lokr_w1"] if "lokr_w1" in leaves else leaves["lokr_w1_a"] @ leaves["lokr_w1_b"]
    if "lokr_w2" in leaves:
        second = leaves["lokr_w2"]
    elif "lokr_t2" in leaves:
        second = _tucker(leaves["lokr_t2"], leaves["lokr_w2_a"], leaves["lokr_w2_b"])
    else:
        second = leaves["lokr_w2_a"] @ leaves["lokr_w2_b"]
        if original.dim() > 2:
            # The kernel was laid flat beside the columns.
            second = second.reshape(len(second), -1, *original.shape[2:])
    first = first.reshape(*first.shape, *[1] * (second.dim() - first.dim()))
    return torch.kron(first, second.contiguous())


def _tucker(middle: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("ijkl,jr,ip->prkl", middle, b, a)


def _full(leaves: Leaves, original: Tensor) -> Tensor:
    # Some files hold the weight that shall be there, instead of what is added to it.
    return leaves["diff"] if "diff" in leaves else leaves["whole"].reshape(original.shape) - original


def _ia3(leaves: Leaves, original: Tensor) -> Tensor:
    if "ia3" in leaves:
        # PEFT keeps the factor itself, others what it is more than 1.
        return original * (_along(leaves["ia3"], original, is_input=leaves["ia3"].shape[0] == 1) - 1)
    return original * _along(leaves["weight"], original, is_input=bool(leaves["on_input"]))


def _along(factors: Tensor, original: Tensor, is_input: bool) -> Tensor:
    """Factors of the columns or of the rows, in a shape that multiplies a weight."""
    sides = [1] * original.dim()
    sides[1 if is_input and original.dim() > 1 else 0] = -1
    return factors.reshape(sides)


def _norm(leaves: Leaves, original: Tensor) -> Tensor:
    return leaves["w_norm"]


def _bias(leaves: Leaves, original: Tensor) -> Tensor:
    return leaves["bias"]


def _decomposed(delta: Tensor, leaves: Leaves, original: Tensor) -> Tensor:
    """DoRA: the sum, brought to the magnitudes that were learned for its columns or rows."""
    direction = original + delta.reshape(original.shape)
    is_of_rows = "magnitude_of_rows" in leaves or leaves["magnitude"].shape == (
        len(original),
        *[1] * (original.dim() - 1),
    )
    magnitude = leaves["magnitude_of_rows" if "magnitude_of_rows" in leaves else "magnitude"]
    kept = 0 if is_of_rows else 1
    others = [side for side in range(original.dim()) if side != kept]
    norm = direction.pow(2).sum(dim=others, keepdim=True).sqrt()
    return direction * (_along(magnitude, original, is_input=not is_of_rows) / norm) - original


#: From the tensors of a layer and the original weight to what is added to it, before scale and weight. The shape may
#: differ from the weight's where the numbers are in the same order.
DELTAS: Mapping[str, Callable[[Leaves, Tensor], Tensor]] = MappingProxyType(
    {
        "LoRA": _lora,
        "LoCon": _lora,
        "LoHa": _loha,
        "LoKr": _lokr,
        "Full": _full,
        "IA3": _ia3,
        "Norm": _norm,
        "bias": _bias,
    }
)
#: Kinds that are a product of two factors, unless they have one of these tensors, too.
PLAIN, INVOLVED = frozenset({"LoRA", "LoCon"}), frozenset({"mid", "bias_indices"})
