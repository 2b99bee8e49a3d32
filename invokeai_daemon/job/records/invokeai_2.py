"""What InvokeAI 1.15 to 2.3 wrote: `sd-metadata`, and the `Dream` command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invokeai_daemon.job.commands import join_subprompts, parse_command
from invokeai_daemon.job.prompt.legacy import split_negative
from invokeai_daemon.job.records.collector import Collector, json_object
from invokeai_daemon.job.schedulers import canonical
from invokeai_daemon.strict_toml import show

METADATA_CHUNK = "sd-metadata"
DREAM_CHUNK = "Dream"

_EXTRAS = {
    "facetool_strength": "face restoration",
    "upscale": "upscaling",
    "postprocessing": "postprocessing",
}
#: The tables of a job that only the command of an image to image run tells.
_OF_PICTURES = ("init", "init_color", "mask", "outpaint", "infill", "seam")


def read_metadata(chunks: Mapping[str, str], found: Collector) -> dict[str, Any]:
    data = json_object(chunks[METADATA_CHUNK])
    image = data["image"]
    found.take("model", data.get("model_id"))
    prompt = image["prompt"]
    found.job["prompt"], negative = split_negative(prompt) if isinstance(prompt, str) else join_subprompts(prompt)
    found.take("negative_prompt", negative)
    found.take("prompt_syntax", "invokeai")
    for key in ("width", "height", "steps", "cfg_scale", "seed"):
        found.take(key, image.get(key))
    for key in ("threshold", "perlin", "h_symmetry_time_pct", "v_symmetry_time_pct"):
        found.take(key, image.get(key) or None)
    found.take_variations((pair["seed"], pair["weight"]) for pair in image.get("variations") or ())
    found.scheduler("image.sampler", image["sampler"], canonical(str(image["sampler"])))
    if image.get("hires_fix"):
        # Its strength is not recorded; this is the one that 2.3 took where nobody said. Init images it passed over.
        found.take("hires", {"strength": 0.75})
    elif image.get("type", "txt2img") == "img2img":
        _init(image, chunks.get(DREAM_CHUNK, ""), found)
    elif image.get("type", "txt2img") != "txt2img":
        found.refuse("image.type", f"the mode {show(image['type'])}")
    for key, what in _EXTRAS.items():
        if image.get(key):
            found.refuse(f"image.{key}", what)
    return data


def _init(image: Mapping[str, Any], dream: str, found: Collector) -> None:
    """2.3 forgot the init image in its metadata; the command beside it has the path."""
    job, _ = parse_command(dream) if dream else ({}, [])
    if "init" in job:
        found.job.update({key: job[key] for key in _OF_PICTURES if key in job})
        return
    strength = f", strength = {image['strength_steps']}" if image.get("strength_steps") else ""
    hint = f'Write a job with [init] image = "…"{strength}.'
    what = f"an init image with the sha256 {image['orig_hash']}" if image.get("orig_hash") else "an init image"
    found.lacks("image.type", what, hint)
    if image.get("init_mask"):
        found.lacks("image.init_mask", f"the mask {show(image['init_mask'])}", "Name a copy of it in [mask].")


def read_dream(chunks: Mapping[str, str], found: Collector) -> dict[str, Any]:
    text = chunks[DREAM_CHUNK]
    job, problems = parse_command(text)
    found.job.update(job)
    found.take("prompt_syntax", "invokeai")
    found.problems.extend(problems)
    return {"dream": text}
