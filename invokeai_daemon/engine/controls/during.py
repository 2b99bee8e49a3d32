"""During: in which steps of a run an adapter counts. Used by all kinds of them."""

from __future__ import annotations

import math
from typing import Protocol

#: Shares of a run are given with few digits; what floating point adds to their products is no step of its own.
DIGITS = 6


class Asked(Protocol):
    """What a job says of any adapter."""

    @property
    def begin(self) -> float: ...

    @property
    def end(self) -> float: ...

    @property
    def weight(self) -> float: ...


def counts(asked: Asked, index: int, count: int) -> bool:
    """Whether an adapter counts in an evaluation, from 0, of so many.

    As in InvokeAI from ⌊begin · n⌋ to ⌈end · n⌉, both included. diffusers leaves out every step that is not wholly
    between begin and end, so that with an end below 1 it takes one or two steps less.
    """
    first, last = (round(share * count, DIGITS) for share in (asked.begin, asked.end))
    return bool(asked.weight) and math.floor(first) <= index <= math.ceil(last)
