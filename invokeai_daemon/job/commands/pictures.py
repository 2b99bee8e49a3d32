"""2.3's options of pictures made from pictures, and the tables of a job that mean the same.

2.3 has one strength for init images and for the second pass of its high resolution fix, scales nothing unless it is
told to, and gives outcropping a seam of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from invokeai_daemon.errors import Problem
from invokeai_daemon.job.commands.switches import SIDES
from invokeai_daemon.job.schema import Hires, Infill, Init, Mask, Seam, Table

#: What 2.3 takes for a seam where the command does not say; it paints none while its size is 0.
_SEAM = {"size": 0, "blur": 0, "strength": 0.7, "steps": 10}
_OUTCROP_SEAM = {"size": 96, "blur": 16, "strength": 0.7, "steps": 20}
_OUTCROP_STRENGTH = 0.9

#: What of a job's tables a command can say.
SAID: Mapping[str, tuple[str, ...]] = {
    "init": ("image", "strength", "fit"),
    "mask": ("image", "text", "threshold", "invert"),
    "outpaint": SIDES,
    "seam": ("size", "blur", "strength", "steps"),
    "infill": ("tile_size",),
    # The size of its first pass is the model's own in 2.3, as it is here.
    "hires": ("strength", "size"),
}
_TABLES: Mapping[str, type[Table]] = {"init": Init, "mask": Mask, "seam": Seam, "infill": Infill, "hires": Hires}


def place(job: dict[str, Any]) -> Iterator[Problem]:
    """Put what the switches said where a job has it; what does not go together is a problem."""
    strength = job.pop("strength", None)
    is_fit = job.pop("fit", False)
    given = {} if strength is None else {"strength": strength}
    if job.pop("force_outpaint", False):
        job.setdefault("mask", {})
    if job.pop("hires_fix", False):
        if "init" in job:
            yield Problem("2.3 passes over an init image beside --hires_fix.", "-I", hint="Keep one of them.")
        job["hires"] = given
    elif "init" in job:
        usual = {"strength": _OUTCROP_STRENGTH} if "outpaint" in job else {}
        job["init"] |= {**usual, **given, "fit": is_fit}
    seam = {**(_OUTCROP_SEAM if "outpaint" in job else _SEAM), **job.pop("seam", {})}
    # Without a seam of its own an extended picture would have the usual one.
    if seam["size"] or "outpaint" in job:
        job["seam"] = seam


def switches(job: Mapping[str, Any]) -> Iterator[str]:
    """The tables of a job as switches. A value that is not there is a job's default, which 2.3 may have otherwise."""
    init, mask, hires = (_filled(job, key) for key in ("init", "mask", "hires"))
    if init:
        yield f"-I {_path(init['image'])} -f {init['strength']}" + (" --fit" if init["fit"] else "")
    elif hires:
        yield f"--hires_fix -f {hires['strength']}"
    if job.get("init_color"):
        yield f"--init_color {_path(job['init_color'])}"
    if mask:
        yield from _mask(mask)
    if job.get("outpaint"):
        yield "-c " + " ".join(f"{side} {job['outpaint'][side]}" for side in SIDES if job["outpaint"].get(side))
    if seam := _filled({"seam": {}, **job} if job.get("outpaint") else job, "seam"):
        yield " ".join(f"--seam_{key} {seam[key]}" for key in SAID["seam"])
    if infill := _filled(job, "infill"):
        yield f"--tile_size {infill['tile_size']}"


def _mask(mask: Mapping[str, Any]) -> Iterator[str]:
    if mask["image"] is not None:
        yield f"-M {_path(mask['image'])}"
    elif mask["text"] is not None:
        yield f"-tm {shlex.quote(mask['text'])} {mask['threshold']}"
    else:
        yield "--force_outpaint"
    if mask["invert"]:
        yield "--invert_mask"


def unsaid(job: Mapping[str, Any]) -> Iterator[str]:
    """The keys of these tables that no command can say."""
    for table, keys in SAID.items():
        asked = job.get(table) or {}
        usual = _TABLES[table].model_fields if table in _TABLES else {}
        for key, value in asked.items():
            if key not in keys and not (key in usual and value == usual[key].default):
                yield f"{table}.{key}"
    for side, extent in (job.get("outpaint") or {}).items():
        if not isinstance(extent, int) or extent % 64:
            yield f"outpaint.{side}"
    if str((job.get("mask") or {}).get("text") or "").startswith("-"):
        yield "mask.text"


def _path(path: str) -> str:
    """One that starts like a switch is told from one by its folder."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)


def _filled(job: Mapping[str, Any], table: str) -> dict[str, Any]:
    """A table with its defaults; empty when the job does not have it."""
    asked = job.get(table)
    if asked is None:
        return {}
    return {**{key: field.default for key, field in _TABLES[table].model_fields.items()}, **asked}
