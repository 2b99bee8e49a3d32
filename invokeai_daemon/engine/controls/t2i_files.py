"""Single files of T2I-Adapters: the config that their shapes tell, and their tensors under diffusers' names.

The original code's names count the residual blocks through, diffusers' names have them in blocks of several.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from invokeai_daemon.errors import ModelError

#: What trainers wrote before all names.
UNDER = ("adapter.", "module.")
#: Pixels along each side of what the first layer sees as one, by base; light ones are for sd-1.
FACTORS: Mapping[str, int] = {"sd-1": 8, "sd-2": 8, "sdxl": 16}
#: Blocks of a full adapter.
BLOCKS = 4


def adapter_of(tensors: Mapping[str, Tensor], base: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The words of diffusers' T2IAdapter for these tensors, and the tensors as it names them. Raises ModelError."""
    plain = {_without_prefix(name): tensor for name, tensor in tensors.items()}
    is_light = "conv_in.weight" not in plain
    named = _light(plain) if is_light else _full(plain)
    first = plain["body.0.in_conv.weight" if is_light else "conv_in.weight"]
    widths = [_width(named, place) for place in range(_count(named, r"body\.(\d+)\."))]
    words = {
        "in_channels": first.shape[1] // FACTORS[base] ** 2,
        # Of a light adapter, the last block is as wide as the one before it.
        "channels": widths[:-1] if is_light else widths,
        "num_res_blocks": _count(named, r"body\.0\.resnets\.(\d+)\."),
        "downscale_factor": FACTORS[base],
        "adapter_type": "light_adapter" if is_light else "full_adapter_xl" if base == "sdxl" else "full_adapter",
    }
    return words, {f"adapter.{name}": tensor for name, tensor in named.items()}


def _without_prefix(name: str) -> str:
    for prefix in UNDER:
        name = name.removeprefix(prefix)
    return name


def _full(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if any(".resnets." in name for name in tensors):
        return dict(tensors)
    blocks = _count(tensors, r"body\.(\d+)\.")
    if blocks < BLOCKS or blocks % BLOCKS:
        raise ModelError(f"it has {blocks} residual blocks, not a multiple of {BLOCKS}")
    per_block = blocks // BLOCKS

    def renamed(name: str) -> str:
        found = re.fullmatch(r"body\.(\d+)\.(.+)", name)
        if found is None:
            return name
        block, place = divmod(int(found[1]), per_block)
        inner = found[2] if found[2].startswith("in_conv.") else f"resnets.{place}.{found[2]}"
        return f"body.{block}.{inner}"

    return {renamed(name): tensor for name, tensor in tensors.items()}


def _light(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {re.sub(r"^(body\.\d+)\.body\.", r"\1.resnets.", name): tensor for name, tensor in tensors.items()}


def _width(tensors: Mapping[str, Tensor], block: int) -> int:
    """Channels of what a block gives."""
    last = f"body.{block}.out_conv.weight"
    return int(tensors[last if last in tensors else f"body.{block}.resnets.0.block2.weight"].shape[0])


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers there are at a place of the names."""
    return len({found[1] for name in tensors if (found := re.match(pattern, name))})
