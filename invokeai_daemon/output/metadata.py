"""What a picture says about its making: text that InvokeAI, AUTOMATIC1111 and this daemon read. No torch, no PIL.

Called by the renderer, which writes them, and by the daemon and the command line, which read them back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from invokeai_daemon import __version__
from invokeai_daemon.errors import JobError, Problem
from invokeai_daemon.job.plan import Image, ModelRef, Plan
from invokeai_daemon.job.prompt.understand import as_a1111, as_invokeai
from invokeai_daemon.job.records import A1111_CHUNK, INVOKEAI_CHUNK, OWN_CHUNK, OWN_FIELD, Record, record_of_chunks
from invokeai_daemon.job.schedulers import BY_NAME, a1111_words
from invokeai_daemon.output.chunks import read_text_chunks

#: The packages whose versions may change a picture.
PACKAGES = ("torch", "diffusers", "transformers")
#: Version of the layout of our own chunk.
RECORD_VERSION = 1


def chunks(plan: Plan, image: Image, versions: Mapping[str, str]) -> dict[str, str]:
    """The text chunks of one image, by keyword. `versions` as from `versions()`; the renderer may add to them."""
    return {
        INVOKEAI_CHUNK: _json(_invokeai_metadata(plan.model, image)),
        A1111_CHUNK: a1111_parameters(plan.model, image),
        OWN_CHUNK: _json(_own_record(plan, image, versions)),
    }


def read_record(path: Path) -> Record:
    """What the picture at `path` records. Raises JobError when it is damaged or says nothing, and OSError."""
    record = record_of_chunks(read_text_chunks(path), str(path))
    if record is None:
        problem = Problem(
            "This picture does not say how it was made.", hint="Only PNG files with metadata can be made again."
        )
        raise JobError(str(path), [problem])
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


def a1111_parameters(model: ModelRef, image: Image) -> str:
    """The text that AUTOMATIC1111 and Civitai read."""
    sampler, schedule = a1111_words(image.scheduler)
    fields = {
        "Steps": image.steps,
        "Sampler": sampler,
        "Schedule type": schedule,
        "CFG scale": f"{image.cfg_scale:g}",
        "Seed": image.seed,
        "Size": f"{image.width}x{image.height}",
        **_a1111_unusual(_unusual(image)),
        **_a1111_hash(model),
        "Model": model.name,
        "Version": f"invokeai-daemon {__version__}",
    }
    listed = ", ".join(f"{name}: {_a1111_value(value)}" for name, value in fields.items())
    prompt, negative = as_a1111(image.prompt, image.negative_prompt, image.prompt_syntax)
    return "\n".join([prompt, *([f"Negative prompt: {negative}"] if negative else []), listed])


def _unusual(image: Image) -> dict[str, Any]:
    """What is not as usual, for readers to whom the prompts are given in their own syntax."""
    return {key: value for key, value in image.unusual.items() if key != "prompt_syntax"}


def _a1111_unusual(values: dict[str, Any]) -> dict[str, Any]:
    """What is not as usual: in AUTOMATIC1111's words where it has some, else in one field of our own."""
    said: dict[str, Any] = {}
    if "clip_skip" in values:
        said["Clip skip"] = values.pop("clip_skip") + 1
    if values.get("seamless_x") and values.get("seamless_y"):
        said["Tiling"] = values.pop("seamless_x") and values.pop("seamless_y")
    if len(values.get("variations", ())) == 1:
        [(said["Variation seed"], said["Variation seed strength"])] = values.pop("variations")
    return {**said, OWN_FIELD: _json(values)} if values else said


def _a1111_hash(model: ModelRef) -> dict[str, str]:
    """A1111's short hash is of a sha256, so other hashes are left out instead of misleading Civitai."""
    kind, _, digits = model.hash.partition(":")
    return {"Model hash": digits[:10]} if kind == "sha256" else {}


def _a1111_value(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:\n"') else text


#: What InvokeAI also records of a base. Empty style prompts say that both text encoders of SDXL read the prompts;
#: without them InvokeAI would keep those that its user had there before.
_STYLES: Mapping[str, Mapping[str, str]] = {"sdxl": {"positive_style_prompt": "", "negative_style_prompt": ""}}


def _invokeai_metadata(model: ModelRef, image: Image) -> dict[str, Any]:
    """InvokeAI's core metadata; its models are found by key or by hash and name."""
    prefix = "" if model.base in ("sd-1", "sd-2") else f"{model.base.replace('-', '_')}_"
    prompt, negative = as_invokeai(image.prompt, image.negative_prompt, image.prompt_syntax, old=False)
    return {
        "generation_mode": f"{prefix}txt2img",
        "positive_prompt": prompt,
        "negative_prompt": negative,
        **_STYLES.get(model.base, {}),
        "width": image.width,
        "height": image.height,
        "seed": image.seed,
        "rand_device": "cpu",
        "cfg_scale": image.cfg_scale,
        "steps": image.steps,
        "scheduler": image.scheduler,
        "model": {
            "key": model.hash or model.name,
            "hash": model.hash,
            "name": model.name,
            "base": model.base,
            "type": model.type,
        },
        # Some of these are InvokeAI's; it passes over the others.
        **_unusual(image),
        "app_version": f"invokeai-daemon {__version__}",
    }


def _own_record(plan: Plan, image: Image, versions: Mapping[str, str]) -> dict[str, Any]:
    """All of the image and of its model but the model's folder, which is nobody else's business."""
    model = {key: value for key, value in asdict(plan.model).items() if key != "path"}
    karras = BY_NAME[image.scheduler]
    return {
        "version": RECORD_VERSION,
        "job": plan.job_id,
        "of": len(plan.images),
        "image": image.as_json(),
        "model": model,
        "scheduler": {"class": karras.class_name, "options": dict(karras.options)},
        "versions": dict(versions),
        "meta": plan.meta,
    }


def _json(data: Any) -> str:
    # ASCII keeps the chunk a plain tEXt, which every reader reads.
    return json.dumps(data, separators=(",", ":"))
