"""What a picture says about its making: text that InvokeAI, AUTOMATIC1111 and this daemon read. No torch, no PIL.

Called by the renderer, which writes them, and by the daemon and the command line, which read them back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from invokeai_daemon import __version__
from invokeai_daemon.errors import NoRecord, Problem
from invokeai_daemon.job.plan import Image, Plan
from invokeai_daemon.job.records import A1111_CHUNK, INVOKEAI_CHUNK, OWN_CHUNK, Record, record_of_chunks
from invokeai_daemon.job.schedulers import BY_NAME, schedulers_of
from invokeai_daemon.output.a1111 import parameters
from invokeai_daemon.output.chunks import read_text_chunks
from invokeai_daemon.output.invokeai import core_metadata
from invokeai_daemon.output.recorded import described, inputs, recorded, references

#: The packages whose versions may change a picture.
PACKAGES = ("torch", "diffusers", "transformers")
#: Version of the layout of our own chunk.
RECORD_VERSION = 1


def chunks(plan: Plan, image: Image, versions: Mapping[str, str]) -> dict[str, str]:
    """The text chunks of one image, by keyword. `versions` as from `versions()`; the renderer may add to them."""
    told = recorded(plan, image)
    return {
        INVOKEAI_CHUNK: _json(core_metadata(plan, told)),
        A1111_CHUNK: parameters(plan, told),
        OWN_CHUNK: _json(_own_record(plan, told, versions)),
    }


def read_record(path: Path) -> Record:
    """What the picture at `path` records. Raises JobError when it is damaged, NoRecord when it is mute, OSError."""
    record = record_of_chunks(read_text_chunks(path), str(path))
    if record is None:
        problem = Problem(
            "This picture does not say how it was made.", hint="Only PNG files with metadata can be made again."
        )
        raise NoRecord(str(path), [problem])
    return record


@cache
def versions() -> dict[str, str]:
    """The versions of this daemon and of the packages that may change a picture, without importing them."""
    # Imports the mail parser, which the daemon's memory can do without until a job is done.
    from importlib import metadata as packages

    found = {"invokeai-daemon": __version__}
    for name in PACKAGES:
        try:
            found[name] = packages.version(name)
        except packages.PackageNotFoundError:
            continue
    return found


def _own_record(plan: Plan, image: Image, versions: Mapping[str, str]) -> dict[str, Any]:
    """All of the image, of its models and of its pictures but where they lay on the user's disk."""
    scheduler = schedulers_of(plan.model.base).get(image.scheduler, BY_NAME[image.scheduler])
    return {
        "version": RECORD_VERSION,
        "job": plan.job_id,
        "of": len(plan.images),
        "image": image.as_json(),
        "model": described(plan.model),
        **{key: listed for key, listed in (("references", references(plan)), ("inputs", inputs(plan))) if listed},
        "scheduler": {"class": scheduler.class_name, "options": dict(scheduler.options)},
        "versions": dict(versions),
        "meta": plan.meta,
    }


def _json(data: Any) -> str:
    # ASCII keeps the chunk a plain tEXt, which every reader reads.
    return json.dumps(data, separators=(",", ":"))
