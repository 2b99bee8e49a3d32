"""Casting: weights of one dtype as another, and turned matrices, in pieces of bounded size. Numpy, no torch.

Called by copying. Numpy knows no bfloat16 and no float8: the former is rounded by its bits (half to even, as everyone
does), the latter is looked up.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Bytes of one value, by safetensors name: what torch loads as weights.
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
#: Read, but never written: every value of theirs is a float16.
NARROW = {"F8_E4M3": 1, "F8_E5M2": 1}
#: The settings' words for dtypes.
WORDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}

Bytes = bytes | memoryview

_PLAIN: dict[str, np.dtype[Any]] = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


def cast(raw: Bytes, dtype: str, wanted: str) -> tuple[Bytes, int]:
    """Values of `dtype` as `wanted`, and how many finite ones became infinite."""
    if dtype == wanted:
        return raw, 0
    if _bytes(dtype) > 2:
        return _cast(raw, dtype, wanted)
    values = np.frombuffer(raw, dtype=f"<u{_bytes(dtype)}")
    table, infinite = _table(dtype, wanted)
    lost = int(np.count_nonzero(infinite[values])) if infinite is not None else 0
    return _raw(np.take(table, values, mode="clip")), lost


def _bytes(dtype: str) -> int:
    return WIDTHS.get(dtype) or NARROW[dtype]


@functools.cache
def _table(dtype: str, wanted: str) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """What becomes of every value of a narrow dtype, and which become infinite if any does: thrice as fast."""
    count, width = 1 << (8 * _bytes(dtype)), WIDTHS[wanted]
    every = np.arange(count, dtype=f"<u{_bytes(dtype)}").tobytes()
    table = np.frombuffer(_cast(every, dtype, wanted)[0], dtype=f"<u{width}")
    before = np.isfinite(_values(every, dtype))
    after = np.isfinite(_values(_raw(table), wanted))
    infinite = before & ~after
    return table, infinite if infinite.any() else None


def _cast(raw: Bytes, dtype: str, wanted: str) -> tuple[Bytes, int]:
    values = _values(raw, dtype)
    if wanted == "BF16":
        return _bfloat16(values.astype(np.float32))
    with np.errstate(over="ignore"):
        new = values.astype(_PLAIN[wanted])
    lost = 0
    if new.dtype.itemsize < values.dtype.itemsize and np.isinf(new).any():
        lost = int(np.count_nonzero(np.isinf(new) & np.isfinite(values)))
    return _raw(new), lost


def transpose(raw: bytes, rows: int, width: int) -> bytes:
    """A matrix of values that are `width` bytes wide, turned."""
    return np.frombuffer(raw, dtype=f"V{width}").reshape(rows, -1).T.tobytes()


def identity(size: int, dtype: str) -> Bytes:
    """An identity matrix."""
    return cast(np.eye(size, dtype=np.float32).tobytes(), "F32", dtype)[0]


def _raw(values: NDArray[Any]) -> memoryview:
    return values.data.cast("B")


def _values(raw: Bytes, dtype: str) -> NDArray[Any]:
    if dtype == "BF16":
        return (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    if dtype in NARROW:
        return _float8(dtype)[np.frombuffer(raw, dtype=np.uint8)]
    return np.frombuffer(raw, dtype=_PLAIN[dtype])


def _bfloat16(values: NDArray[np.float32]) -> tuple[Bytes, int]:
    """The upper half of a float32, rounded to the nearest, half to even; what is no number stays none."""
    bits = values.view(np.uint32)
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    odd = ~np.isfinite(values)
    if odd.any():
        # A rounded NaN might overflow into a number: keep its upper half, and one bit that says NaN.
        quiet = np.where(np.isnan(values), 0x40, 0).astype(np.uint16)
        rounded = np.where(odd, (bits >> 16).astype(np.uint16) | quiet, rounded)
    lost = int(np.count_nonzero(((rounded & 0x7FFF) == 0x7F80) & ~odd))
    return _raw(rounded), lost


@functools.cache
def _float8(dtype: str) -> NDArray[np.float16]:
    """The 256 values of a float8: one sign, four or five bits of exponent, the rest fraction."""
    bits = np.arange(256, dtype=np.uint16)
    if dtype == "F8_E5M2":
        return (bits << 8).view(np.float16)
    exponent, fraction = (bits >> 3) & 15, (bits & 7).astype(np.float64)
    size = np.where(exponent > 0, np.ldexp(8 + fraction, exponent.astype(int) - 10), np.ldexp(fraction, -9))
    size[(bits & 0x7F) == 0x7F] = np.nan
    return np.where(bits & 0x80, -size, size).astype(np.float16)
