"""Words: the kinds of values that the keys of a job have, and the sentences about values that are none of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, time
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from invokeai_daemon.job.schedulers import ALIASES, SCHEDULERS, canonical
from invokeai_daemon.strict_toml import Mistake, nearest, show

MAX_SEED = 2**32 - 1


class Table(BaseModel):
    """A table of a job: unknown keys are errors, values are not coerced, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def clean_text(text: str, path: str = "") -> str:
    if "\0" in text:
        raise Mistake("The text holds a NUL character.", "Remove it.", path)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise Mistake("The text holds half of a UTF-16 pair.", "Write the character itself.", path)
    return text


def _multiple_of_8(size: int) -> int:
    if size % 8:
        raise Mistake(f"{size} is not a multiple of 8.", f"Use {size - size % 8} or {size - size % 8 + 8}.")
    return size


def _scheduler(name: str) -> str:
    known = canonical(name)
    if known is None:
        meant = nearest(name, (*SCHEDULERS, *ALIASES))
        hint = f'Did you mean "{meant}"?' if meant else f"Use one of {', '.join(SCHEDULERS)}."
        raise Mistake(f"{show(name)} is no scheduler.", hint)
    return known


def plain(value: Any, path: str = "") -> Any:
    """A value of the user's own as JSON can carry it: dates become text. Raises Mistake for what cannot be carried."""
    if isinstance(value, Mapping):
        start = f"{path}." if path else ""
        return {clean_text(str(key), path): plain(inner, start + str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, path) for inner in value]
    if isinstance(value, str):
        return clean_text(value, path)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise Mistake(f"{value} is not a finite number.", "Put it in quotes to keep it as text.", path)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise Mistake("The number has more than 64 bits.", "Put it in quotes to keep it as text.", path)
    return value


Text = Annotated[str, AfterValidator(clean_text)]
Name = Annotated[str, Field(min_length=1), AfterValidator(clean_text)]
#: A picture: its path, relative to the job file's folder or to the root.
PicturePath = Name
Size = Annotated[int, Field(ge=64, le=32768), AfterValidator(_multiple_of_8)]
SchedulerName = Annotated[str, AfterValidator(_scheduler)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Steps = Annotated[int, Field(ge=1, le=1000)]
Guidance = Annotated[float, Field(ge=1, le=200)]
Fraction = Annotated[float, Field(ge=0, le=1)]
#: A seed and its weight. TOML has lists only, so a tuple need not be one.
Weighted = Annotated[tuple[Seed, Fraction], Field(strict=False)]
