"""What every reader of weight files shares: the header they give, the limits they keep, the words for sizes.

Called by the readers beside it; the rest of the program gets these names from `models.header`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

#: A file with more tensors is no model of ours: SDXL with every layer factorised has some 12,000.
MAX_TENSORS = 20_000
#: Dimensions of a tensor, and the longest one.
MAX_DIMENSIONS, MAX_SIDE = 16, 2**40
#: Characters of a tensor's name.
MAX_NAME = 1000

#: Bits of one element, by safetensors name. Of block-quantised tensors see `formats.gguf.BLOCKS`.
BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


class TensorInfo(NamedTuple):
    """Where a tensor lies in its file and what it is. A tuple, since a folder of LoRAs has millions of them."""

    #: Safetensors name: F16, BF16, F32, I64, …; in a GGUF file also its names: Q8_0, Q4_K, …
    dtype: str
    shape: tuple[int, ...]
    #: Absolute offset of its first byte in the file; -1 when its elements do not lie in order, see `reason`.
    file_offset: int
    #: Bytes of its elements.
    nbytes: int
    #: Why there is no file offset.
    reason: str = ""

    @property
    def count(self) -> int:  # type: ignore[override]
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a weight file holds."""

    path: Path
    #: "safetensors", "torch-zip", "torch-legacy" or "gguf"
    format: str
    #: Bytes of the file.
    size: int
    #: In the order of the file; of a pickle those of its `state_dict` if it has one, else of its outermost dictionary.
    tensors: Mapping[str, TensorInfo]
    #: The texts of a safetensors header, or the keys and values of a GGUF file as texts.
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: Plain values beside the tensors of a pickle: global_step, epoch, …
    scalars: Mapping[str, int | float | str] = field(default_factory=dict)
    #: The globals that the pickle names.
    globals: tuple[str, ...] = ()
    #: Those of them that have nothing to do with tensors: classes of a training program, of which nothing was built.
    leftovers: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how the file was read, as sentences without a full stop; evidence."""
        if not self.leftovers:
            return ()
        shown = ", ".join(ascii(name)[1:-1] for name in self.leftovers[:3])
        more = f" and {len(self.leftovers) - 3} more" if len(self.leftovers) > 3 else ""
        return (f"the pickle names leftovers of training ({shown}{more}); they were not loaded",)


def unfit_name(name: str) -> str:
    """What is wrong with the name of a tensor; empty when nothing is."""
    if not name.isprintable():
        return "has control characters"
    if len(name) > MAX_NAME:
        return f"has {len(name):,} characters"
    if name.startswith("/") or ".." in name.replace("\\", "/").split("/"):
        return "is a path that leads out of its folder"
    return ""


def first_unfit(names: Iterable[str]) -> str:
    """The first of many names that is unfit; empty when none is, which is looked for in all of them at once."""
    names = list(names)
    joined = "".join(names)
    is_suspicious = "/" in joined or ".." in joined or max(map(len, names), default=0) > MAX_NAME
    if joined.isprintable() and not is_suspicious:
        return ""
    return next((name for name in names if unfit_name(name)), "")


def shown(name: str) -> str:
    """A name from a file, fit for a message: short, and without characters that act."""
    return ascii(name)[:200]
