"""The `.yaml` beside a checkpoint, in the words of the original code: read with care, and only what is of use.

Called by the plan. It may say what no tensor tells: what the model predicts, its number of heads. Where it contradicts
the shapes it is reported, not obeyed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.identity import Identity

#: The published ones have 2 KB.
MAX_BYTES = 64 * 1024
#: Tables in tables; the published ones have six.
MAX_DEPTH = 20

Value = TypeVar("Value")


@dataclass(frozen=True)
class Original:
    """What such a file says; None where it says nothing."""

    #: "eps" or "v".
    parameterization: str | None = None
    use_ema: bool | None = None
    in_channels: int | None = None
    model_channels: int | None = None
    channel_mult: tuple[int, ...] | None = None
    context_dim: int | None = None
    #: Heads of every attention, or the width of each head.
    num_heads: int | None = None
    num_head_channels: int | None = None
    #: Of the latents.
    scale_factor: float | None = None


def read_original(path: Path) -> Original:
    """Raises UnreadableModel when the file is too large or no YAML of plain values."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableModel(f"{path}: cannot be read: {error.strerror}.") from error
    if len(raw) > MAX_BYTES:
        raise UnreadableModel(f"{path}: not the config of a model: it is larger than {MAX_BYTES // 1024} KiB.")
    try:
        _require_plain(path, yaml.parse(raw, yaml.SafeLoader))
        content = yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UnreadableModel(
            f"{path}: not proper YAML ({' '.join(str(error).split())[:200]}). Mend or remove it."
        ) from error
    return _understood(content)


def _require_plain(path: Path, events: Iterable[yaml.Event]) -> None:
    """Refuse what lets a few lines expand to gigabytes or hours; no published config has it."""
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UnreadableModel(f"{path}: not the config of a model: its tables lie too deep in each other.")
        if isinstance(event, yaml.AliasEvent):
            raise UnreadableModel(f"{path}: it has YAML aliases, which are not read. Write the values out.")


PREDICTIONS = {"eps": "epsilon", "v": "v_prediction"}


def settled(identity: Identity, original: Original) -> tuple[Identity, tuple[str, ...]]:
    """The identity with what the file says of the prediction where no fact decided it, and what it says in vain."""
    said = PREDICTIONS.get(original.parameterization or "")
    if said is None or said == identity.prediction_type:
        return identity, ()
    if identity.prediction_type is not None and "prediction_type" not in identity.assumed:
        return identity, (f"its .yaml says {said}, but it is known to be {identity.prediction_type}: not obeyed",)
    assumed = tuple(word for word in identity.assumed if word != "prediction_type")
    evidence = (*identity.evidence, f"its .yaml says parameterization {original.parameterization}")
    return replace(identity, prediction_type=said, assumed=assumed, evidence=evidence), ()


def told(config: Mapping[str, Any], original: Original) -> dict[str, Any]:
    """What the file says of this component's config that no shape tells."""
    words: dict[str, Any] = {}
    if {"attention_head_dim", "block_out_channels"} <= config.keys() and _heads(config, original) is not None:
        words["attention_head_dim"] = _heads(config, original)
    if "scaling_factor" in config and original.scale_factor:
        words["scaling_factor"] = original.scale_factor
    return words


def contradictions(config: Mapping[str, Any], original: Original) -> Iterator[str]:
    """What the file says of this component that its tensors deny."""
    if "cross_attention_dim" not in config:
        return
    seen = {
        "in_channels": config["in_channels"],
        "context_dim": config["cross_attention_dim"],
        "model_channels": config["block_out_channels"][0],
    }
    for name, value in seen.items():
        said = getattr(original, name)
        if said is not None and said != value:
            yield f"its .yaml says {name} {said}, but its tensors have {value}: not obeyed"
    if original.num_heads and _heads(config, original) is None:
        yield f"its .yaml says num_heads {original.num_heads}, into which its widths cannot be split: not obeyed"


def _heads(config: Mapping[str, Any], original: Original) -> int | list[int] | None:
    """Heads per attention as diffusers' misnamed `attention_head_dim` has them; None when nothing usable is said."""
    widths: list[int] = config["block_out_channels"]
    if original.num_heads:
        return original.num_heads if all(width % original.num_heads == 0 for width in widths) else None
    size = original.num_head_channels
    return [width // size for width in widths] if size and all(width % size == 0 for width in widths) else None


def _understood(content: Any) -> Original:
    model = _table(_table(content, "model"), "params")
    unet = _table(_table(model, "unet_config") or _table(model, "network_config"), "params")
    multiples = unet.get("channel_mult")
    return Original(
        parameterization=_one(model, "parameterization", str) or _by_denoiser(model) or _by_default(model),
        use_ema=_one(model, "use_ema", bool),
        in_channels=_one(unet, "in_channels", int),
        model_channels=_one(unet, "model_channels", int),
        channel_mult=tuple(multiples) if isinstance(multiples, list) and _all_ints(multiples) else None,
        context_dim=_one(unet, "context_dim", int),
        num_heads=_positive(unet, "num_heads"),
        num_head_channels=_positive(unet, "num_head_channels"),
        scale_factor=_one(model, "scale_factor", float),
    )


def _by_denoiser(model: dict[str, Any]) -> str | None:
    """SDXL's configs name a class instead: …VScaling, …EpsScaling."""
    scaling = _table(_table(_table(model, "denoiser_config"), "params"), "scaling_config").get("target")
    kind = scaling.rpartition(".")[2].lower() if isinstance(scaling, str) else ""
    return next((word for word in ("eps", "v") if kind.startswith(word)), None)


def _by_default(model: dict[str, Any]) -> str | None:
    """The original code's trainer takes its silence for eps."""
    return "eps" if "linear_start" in model else None


def _table(content: Any, name: str) -> dict[str, Any]:
    inner = content.get(name) if isinstance(content, dict) else None
    return inner if isinstance(inner, dict) else {}


def _one(table: dict[str, Any], name: str, kind: type[Value]) -> Value | None:
    value = table.get(name)
    return value if isinstance(value, kind) and isinstance(value, bool) == (kind is bool) else None


def _positive(table: dict[str, Any], name: str) -> int | None:
    number = _one(table, name, int)
    return number if number is not None and number > 0 else None


def _all_ints(values: list[Any]) -> bool:
    return all(type(value) is int for value in values)
