"""Quantised: how the weights of a file are stored when they are not plain floating-point numbers.

Asked once a family is known: the same network comes in many storages, and the format word follows from the storage.
A row is known by the endings of names that only it writes, or by dtypes. Tensors are never read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from invokeai_daemon.models.identify.weights import Weights, shorten


@dataclass(frozen=True)
class Storage:
    """How the weights are stored."""

    #: InvokeAI's format; empty when it has no word of its own.
    format: str = ""
    evidence: tuple[str, ...] = ()
    #: Why it cannot be used, and what to do; empty when it can.
    unusable: str = ""


PLAIN = Storage()


@dataclass(frozen=True)
class Way:
    """One way to store weights in fewer bits."""

    #: How a sentence calls it.
    called: str
    #: What shows it in a file: a name, or a sentence; None when it is not stored so.
    shown_by: Callable[[Weights], str | None]
    format: str = ""
    #: Whether its numbers need other numbers before they mean anything.
    unusable: bool = True


def quantisation(weights: Weights) -> Storage:
    """How the tensors of a view are stored."""
    for way in WAYS:
        shown = way.shown_by(weights)
        if shown:
            why = f"{way.called} cannot be loaded yet. {OTHER_VERSION}" if way.unusable else ""
            return Storage(way.format, (f"it holds {way.called} ({shown})",), why)
    return PLAIN


OTHER_VERSION = "Get the version of the model that is stored as safetensors in float16 or bfloat16"


def _endings(weights: Weights) -> dict[str, str]:
    """The last part of the names -> the first name that ends so."""
    endings: dict[str, str] = {}
    for name in weights.names:
        endings.setdefault(name.rpartition(".")[2], name)
    return endings


def _ends(*endings: str) -> Callable[[Weights], str | None]:
    """All of these endings occur; the first is told."""

    def shown(weights: Weights) -> str | None:
        found = weights.ask(_endings)
        return shorten(weights.prefix + found[endings[0]]) if all(ending in found for ending in endings) else None

    return shown


def _named(name: str) -> Callable[[Weights], str | None]:
    return lambda weights: weights.prefix + name if weights.shape(name) is not None else None


def _gguf(weights: Weights) -> str | None:
    if weights.header.format != "gguf":
        return None
    kinds = Counter({dtype: count for dtype, count in weights.dtypes.items() if dtype not in ("F32", "F16", "BF16")})
    if not kinds:
        return "a GGUF file"
    return ", ".join(f"{count} as {dtype}" for dtype, count in sorted(kinds.items(), key=lambda kind: (-kind[1], kind)))


def _eight_bit_floats(weights: Weights) -> str | None:
    kinds = sorted((dtype, count) for dtype, count in weights.dtypes.items() if dtype.startswith("F8"))
    return ", ".join(f"{count} as {dtype}" for dtype, count in kinds) or None


def _scaled_floats(weights: Weights) -> str | None:
    scale = _ends("scale_weight")(weights) or _ends("weight_scale")(weights) or _named("scaled_fp8")(weights)
    return scale if scale and weights.ask(_eight_bit_floats) else None


def _scaled_integers(weights: Weights) -> str | None:
    scale = _ends("weight_scale")(weights) or _ends("scale_weight")(weights)
    return scale if scale and "I8" in weights.dtypes else None


def _sdnq(weights: Weights) -> str | None:
    """SDNQ stores a scale of its own beside every weight of integers."""
    for name in weights.matching("*.scale"):
        weight = f"{name.removesuffix('.scale')}.weight"
        if weights.shape(weight) is not None and weights.tensor(weight).dtype in ("I8", "U8", "I16", "U16"):
            return shorten(weights.prefix + name)
    return None


#: The order is from the particular to the general: several ways use scales.
WAYS = (
    Way("GGUF-quantised weights", _gguf, "gguf_quantized"),
    Way("4-bit weights of bitsandbytes (nf4)", _ends("bitsandbytes__nf4"), "bnb_quantized_nf4b"),
    Way("4-bit weights of bitsandbytes (fp4)", _ends("bitsandbytes__fp4"), "bnb_quantized_nf4b"),
    Way("8-bit weights of bitsandbytes (int8)", _ends("SCB"), "bnb_quantized_int8b"),
    Way("4-bit weights of SVDQuant (nunchaku)", _ends("qweight", "wscales")),
    Way("4-bit weights of AWQ or GPTQ", _ends("qweight", "qzeros")),
    Way("weights that ComfyUI quantised", _ends("comfy_quant")),
    Way("4-bit floats with two scales (nvfp4)", _ends("weight_scale_2")),
    Way("scaled 8-bit floats", _scaled_floats),
    Way("scaled 8-bit integers", _scaled_integers),
    Way("weights that SDNQ quantised", _sdnq, "sdnq_quantized"),
    Way("8-bit floats", _eight_bit_floats, unusable=False),
)
