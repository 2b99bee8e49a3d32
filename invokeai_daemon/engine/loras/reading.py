"""Reading: the layers of a LoRA's file, in every dialect, with the tensors and the scale of each.

Called when an image wears a LoRA that is not in memory. How names are spelled and which kind a layer is, the tables of
`models.identify.lora` say; what a layer adds to a weight is in `changes.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from invokeai_daemon.engine.loading.weights import read_tensors, weight_file
from invokeai_daemon.engine.loras.changes import DELTAS, Change
from invokeai_daemon.errors import DaemonError, RenderError
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.models.header import Header, read_header
from invokeai_daemon.models.identify.lora import Target, facts_of
from invokeai_daemon.models.identify.lora.names import taken_apart

#: Kinds whose numbers are used as they are, whatever alpha says.
UNSCALED = frozenset({"Full", "IA3", "Norm"})
#: What is told apart here and called alike by the tables: last word of a name -> leaf.
_FINER = {"set_weight": "whole", **{word: word for word in ("bias_indices", "bias_values", "bias_size")}}
#: PEFT's magnitudes are always of rows, whatever their shape.
_OF_ROWS = ".lora_magnitude_vector"
#: Vectors that are added to the bias of a layer.
_BIASES = ("bias", "diff_b", "b_norm")
#: How the words begin for what is multiplied as a matrix.
_MATRICES = ("up", "down", "mid", "hada_", "lokr_")
#: Where PEFT writes its settings: beside the file, or into its metadata as diffusers does.
_PEFT_FILE, _PEFT_KEY, _MOST_SETTINGS = "adapter_config.json", "lora_adapter_metadata", 1_000_000
#: Parts of a pipeline as these metadata call them.
_PEFT_PARTS = {"unet": ("unet", "transformer"), "te": ("text_encoder",)}


@dataclass(frozen=True, eq=False)
class LoraLayer:
    """One layer of a LoRA's file."""

    target: Target
    #: Of the layer's weight; None where the file only has a bias, or a kind that cannot be applied.
    weight: Change | None
    bias: Change | None


def read_lora(reference: ModelRef) -> tuple[LoraLayer, ...]:
    """All layers of a LoRA. Raises RenderError."""
    try:
        path = weight_file(reference)
        header = read_header(path)
        facts = facts_of(header)
        if facts is None:
            raise RenderError(f"{path} has no layer of a LoRA.")
        if facts.broken:
            raise RenderError(f"{path}: {facts.broken}.")
        return tuple(_layers(header, facts.targets, _settings(header)))
    except DaemonError as error:
        raise RenderError(f'The LoRA "{reference.name}" cannot be used: {error}') from error


def _layers(header: Header, targets: tuple[Target, ...], settings: Mapping[str, Any]) -> Iterator[LoraLayer]:
    names = _names(header)
    tensors = read_tensors(header, (name for target in targets for name in names[target.stem].values()))
    for target in targets:
        leaves = {leaf: tensors[name] for leaf, name in names[target.stem].items()}
        for leaf, tensor in leaves.items():
            if fault := _fault(leaf, tensor):
                raise RenderError(f"{header.path}: {names[target.stem][leaf]} {fault}.")
        alpha = leaves.pop("alpha", None)
        scale = _scale(target, None if alpha is None else float(alpha), settings)
        yield LoraLayer(target, _of_weight(target, leaves, scale), _of_bias(leaves, scale))


def _fault(leaf: str, tensor: Tensor) -> str | None:
    """What makes a tensor useless, whatever model it is for."""
    if not tensor.numel():
        return "is empty"
    if leaf == "alpha" and tensor.numel() > 1:
        return f"is not one number, but {tensor.numel()}"
    if leaf.startswith(_MATRICES) and tensor.dim() < 2:
        return "is no matrix"
    return None


def _names(header: Header) -> Mapping[str, Mapping[str, str]]:
    """The name of each tensor, by the layer that it belongs to and what it is there."""
    names: dict[str, dict[str, str]] = defaultdict(dict)
    for name in header.tensors:
        if spelling := taken_apart(name):
            last = name.rpartition(".")[2]
            if spelling.leaf != "bias" or not _is_of_down(name):
                leaf = "magnitude_of_rows" if _OF_ROWS in name else _FINER.get(last, spelling.leaf)
                names[spelling.stem][leaf] = name
    for stem, leaves in names.items():
        if "on_input" in leaves:
            leaves["weight"] = f"{stem}.weight"
    return names


def _is_of_down(name: str) -> bool:
    return "down" in name.split(".")[-2] or ".lora_A." in name


def _of_weight(target: Target, leaves: Mapping[str, Tensor], scale: float) -> Change | None:
    kind = target.layer.kind
    numbers = {leaf: tensor for leaf, tensor in leaves.items() if leaf not in _BIASES}
    if not numbers or kind.partition(" ")[0].replace("DoRA", "LoRA") not in DELTAS:
        return None
    if kind.endswith("LoRA") and not {"up", "down"} <= numbers.keys():
        return None
    return Change(kind, numbers, scale)


def _of_bias(leaves: Mapping[str, Tensor], scale: float) -> Change | None:
    if "ia3" in leaves and leaves["ia3"].shape[-1] == 1:
        # PEFT multiplies all that a layer gives, its bias included.
        return Change("IA3", {"ia3": leaves["ia3"]})
    found = next((leaf for leaf in _BIASES if leaf in leaves), None)
    if found is None:
        return None
    return Change("bias", {"bias": leaves[found]}, scale if found == "bias" else 1.0)


# Scales


def _scale(target: Target, alpha: float | None, settings: Mapping[str, Any]) -> float:
    rank = target.layer.rank
    if target.layer.kind in UNSCALED or not rank:
        return 1.0
    if alpha is not None:
        return alpha / rank
    return _scale_of_settings(target, rank, settings)


def _scale_of_settings(target: Target, rank: int, settings: Mapping[str, Any]) -> float:
    """PEFT writes no alpha beside the layers, but for all of them elsewhere; without that it counts as the rank."""
    own = _of_part(target.place.part, settings)
    patterns = own.get("alpha_pattern")
    alpha = own.get("lora_alpha", own.get("alpha"))
    if isinstance(patterns, dict):
        alpha = next((each for key, each in patterns.items() if _is_meant(key, target.stem)), alpha)
    if not isinstance(alpha, int | float):
        return 1.0
    return float(alpha) / (math.sqrt(rank) if own.get("use_rslora") else rank)


def _is_meant(key: str, stem: str) -> bool:
    # PEFT takes the keys for patterns; in a file of a stranger they are only compared.
    return stem == key or stem.endswith(f".{key.removeprefix('^')}")


def _of_part(part: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    prefixes = [f"{word}." for word in _PEFT_PARTS.get(part, (part,))]
    own = {
        key.removeprefix(prefix): value
        for prefix in prefixes
        for key, value in settings.items()
        if key.startswith(prefix)
    }
    return own or settings


def _settings(header: Header) -> Mapping[str, Any]:
    """What PEFT says of all layers, by its own words, with the part before them if there are several."""
    text = header.metadata.get(_PEFT_KEY) or _text_beside(header.path)
    try:
        settings = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        settings = {}
    return settings if isinstance(settings, dict) else {}


def _text_beside(path: Path) -> str:
    file = path.with_name(_PEFT_FILE)
    if not re.match(r"adapter_model\.", path.name) or not file.is_file():
        return ""
    with file.open(encoding="utf-8", errors="replace") as opened:
        return opened.read(_MOST_SETTINGS)
