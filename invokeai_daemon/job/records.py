"""Records: what a PNG says about its making, as a job. Ours, InvokeAI's (2.x and 3+) and AUTOMATIC1111's.

`output.metadata` reads the chunks of a file; here they get their meaning. What cannot be rendered again is named, never
left out silently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from invokeai_daemon.errors import JobError, Problem
from invokeai_daemon.job.commands import join_subprompts, parse_command
from invokeai_daemon.job.parse import job_of
from invokeai_daemon.job.plan_job import OPTIONAL
from invokeai_daemon.job.prompt.legacy import escaped, split_negative
from invokeai_daemon.job.schedulers import canonical, from_a1111
from invokeai_daemon.job.schema import OWN_PREFIX
from invokeai_daemon.strict_toml import Document, dump_toml, show

#: The text chunk with our own record.
OWN_CHUNK = "invokeai_daemon"
INVOKEAI_CHUNK = "invokeai_metadata"
A1111_CHUNK = "parameters"
#: The field in AUTOMATIC1111's text with what it has no words for, as JSON.
OWN_FIELD = "invokeai-daemon"


@dataclass(frozen=True)
class Record:
    """What the text chunks of a picture say, from the most telling chunk."""

    #: The file, as messages name it.
    where: str
    #: Who wrote it: "invokeai-daemon", "invokeai" (3 and later), "invokeai-2", "a1111".
    writer: str
    #: The record as its writer put it: JSON, or the fields of a text.
    data: dict[str, Any]
    #: The keys of a job that makes the picture again, as far as the record tells.
    job: dict[str, Any] = field(default_factory=dict)
    #: What of the picture a job cannot ask for.
    problems: tuple[Problem, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "writer": self.writer,
            "record": self.data,
            "job": self.job,
            "problems": [str(problem) for problem in self.problems],
        }


def record_of_chunks(chunks: Mapping[str, str], where: str) -> Record | None:
    """The record in the text chunks of a picture; None when none of the writers above wrote one."""
    for name, writer, read in _READERS:
        if name in chunks:
            return _record(where, writer, chunks[name], read)
    return None


def job_of_record(record: Record) -> str:
    """A job file that makes the picture again. Raises JobError naming everything that a job cannot ask for."""
    if record.problems:
        raise JobError(record.where, record.problems)
    return dump_toml(record.job)


class _Collector:
    """The job keys and the problems of one record, as they are found."""

    def __init__(self) -> None:
        self.job: dict[str, Any] = {}
        self.problems: list[Problem] = []

    def take(self, key: str, value: Any) -> None:
        if value is not None:
            self.job[key] = value

    def take_variations(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        if listed := [list(pair) for pair in pairs]:
            self.job["variation"] = {"with": listed}

    def refuse(self, key: str, what: str) -> None:
        self.problems.append(Problem(f"The picture was made with {what}, which is not supported yet.", key))

    def scheduler(self, key: str, name: Any, known: str | None) -> None:
        if known is None:
            self.problems.append(Problem(f"{show(name)} is no scheduler that is known here.", key))
        else:
            self.job["scheduler"] = known


Reader = Callable[[str, _Collector], dict[str, Any]]


def _record(where: str, writer: str, text: str, read: Reader) -> Record:
    found = _Collector()
    try:
        data = read(text, found)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as failure:
        # The text of a chunk is anybody's; whatever shape it has instead of the writer's is one problem, not a crash.
        problem = Problem(f"The {writer} record is damaged: {type(failure).__name__}: {str(failure)[:200]}.")
        return Record(where, writer, {"text": text}, problems=(problem,))
    return Record(where, writer, data, found.job, (*found.problems, *_job_problems(found.job, where)))


def _job_problems(job: dict[str, Any], where: str) -> tuple[Problem, ...]:
    try:
        job_of(Document(where, job, {}))
    except JobError as error:
        return error.problems
    return ()


def _object(text: str) -> dict[str, Any]:
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("it is no JSON object")
    return data


# --- ours --------------------------------------------------------------------------------------------------------

IMAGE_KEYS = ("prompt", "negative_prompt", "width", "height", "steps", "cfg_scale", "scheduler", "seed")


def _read_own(text: str, found: _Collector) -> dict[str, Any]:
    data = _object(text)
    found.take("model", data["model"]["name"])
    for key in IMAGE_KEYS:
        found.take(key, data["image"][key])
    # Pictures of earlier versions lack these.
    for key in OPTIONAL:
        found.take(key, data["image"].get(key))
    # They took every prompt for plain words, too.
    found.job.setdefault("prompt_syntax", "plain")
    found.take_variations(data["image"].get("variations", ()))
    found.job.update({key: own for key, own in data["meta"].items() if key == "meta" or key.startswith(OWN_PREFIX)})
    return data


# --- InvokeAI 3 and later ----------------------------------------------------------------------------------------

#: What a job cannot ask for, where the record has it and it is not empty.
_INVOKEAI_EXTRAS = {
    "loras": "LoRAs",
    "controlnets": "ControlNets",
    "ipAdapters": "IP adapters",
    "t2iAdapters": "T2I adapters",
    "vae": "another VAE",
    "init_image": "an init image",
    "refiner_model": "a refiner",
    "hrf_enabled": "the high resolution fix",
}
#: Prompts for SDXL's second text encoder alone, and the prompts that it reads without them.
_STYLES = {"positive_style_prompt": "positive_prompt", "negative_style_prompt": "negative_prompt"}


def _read_invokeai(text: str, found: _Collector) -> dict[str, Any]:
    data = _object(text)
    mode = data.get("generation_mode")
    if mode is not None and str(mode).rpartition("_")[2] != "txt2img":
        found.refuse("generation_mode", f"the mode {show(mode)}")
    model = data.get("model") or {}
    found.take("model", model.get("name") or model.get("model_name"))
    found.take("prompt", escaped(data["positive_prompt"]))
    found.take("negative_prompt", escaped(data["negative_prompt"]) if data.get("negative_prompt") is not None else None)
    found.take("prompt_syntax", "invokeai")
    for key in ("width", "height", "steps", "cfg_scale", "seed"):
        found.take(key, data.get(key))
    for key in OPTIONAL:
        found.take(key, data.get(key) or None)
    found.take_variations(data.get("variations", ()))
    if data.get("scheduler") is not None:
        found.scheduler("scheduler", data["scheduler"], canonical(str(data["scheduler"])))
    for key, what in _INVOKEAI_EXTRAS.items():
        if data.get(key):
            found.refuse(key, what)
    for style, prompt in _STYLES.items():
        if (data.get(style) or "").strip() not in ("", (data.get(prompt) or "").strip()):
            found.refuse(style, "a style prompt of its own")
    return data


# --- InvokeAI 2 --------------------------------------------------------------------------------------------------

_SD_METADATA_EXTRAS = {
    "hires_fix": "the high resolution fix",
    "facetool_strength": "face restoration",
    "upscale": "upscaling",
    "postprocessing": "postprocessing",
    "init_mask": "a mask",
}


def _read_sd_metadata(text: str, found: _Collector) -> dict[str, Any]:
    data = _object(text)
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
    if image.get("type", "txt2img") != "txt2img":
        found.refuse("image.type", f"the mode {show(image['type'])}")
    for key, what in _SD_METADATA_EXTRAS.items():
        if image.get(key):
            found.refuse(f"image.{key}", what)
    return data


def _read_dream(text: str, found: _Collector) -> dict[str, Any]:
    job, problems = parse_command(text)
    found.job.update(job)
    found.take("prompt_syntax", "invokeai")
    found.problems.extend(problems)
    return {"dream": text}


# --- AUTOMATIC1111 -----------------------------------------------------------------------------------------------

_PARAMETER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_LORA = re.compile(r"<lora:([^:>]*)")
_A1111_EXTRAS = {
    "Denoising strength": "an init image or the high resolution fix",
    "Hires upscale": "the high resolution fix",
    "Face restoration": "face restoration",
    "VAE": "another VAE",
    "Mask blur": "a mask",
    "Refiner": "a refiner",
    "ENSD": "a seed offset",
}


def _read_a1111(text: str, found: _Collector) -> dict[str, Any]:
    prompt, negative, fields = split_parameters(text)
    found.job.update(prompt=prompt, negative_prompt=negative, prompt_syntax="a1111")
    found.take("model", fields.get("Model"))
    for key, name in (("steps", "Steps"), ("seed", "Seed")):
        found.take(key, int(fields[name]) if name in fields else None)
    found.take("cfg_scale", float(fields["CFG scale"]) if "CFG scale" in fields else None)
    if "Size" in fields:
        width, height = fields["Size"].split("x")
        found.job.update(width=int(width), height=int(height))
    if "Sampler" in fields:
        words = f"{fields['Sampler']} {fields.get('Schedule type', '')}".strip()
        found.scheduler("Sampler", words, from_a1111(fields["Sampler"], fields.get("Schedule type", "")))
    if fields.get("Clip skip", "1") != "1":
        found.take("clip_skip", int(fields["Clip skip"]) - 1)
    if fields.get("Tiling") == "True":
        found.job.update(seamless_x=True, seamless_y=True)
    if float(fields.get("Variation seed strength", 0)):
        found.take_variations([(int(fields["Variation seed"]), float(fields["Variation seed strength"]))])
    if OWN_FIELD in fields:
        _read_own_field(json.loads(fields[OWN_FIELD]), found)
    for lora in _LORA.findall(prompt):
        found.refuse("prompt", f"the LoRA {show(lora)}")
    for key, what in _A1111_EXTRAS.items():
        if fields.get(key) not in (None, "", "0", "None"):
            found.refuse(key, what)
    return {"prompt": prompt, "negative_prompt": negative, "parameters": fields}


def _read_own_field(values: dict[str, Any], found: _Collector) -> None:
    for key in OPTIONAL:
        found.take(key, values.get(key))
    found.take_variations(values.get("variations", ()))


def split_parameters(text: str) -> tuple[str, str, dict[str, str]]:
    """AUTOMATIC1111's text: the prompt, the negative prompt, and the fields of the last line."""
    lines = text.strip().split("\n")
    fields: dict[str, str] = {}
    if len(_PARAMETER.findall(lines[-1])) >= 3:
        fields = dict(_parameters(lines.pop()))
    start = next((n for n, line in enumerate(lines) if line.strip().startswith("Negative prompt:")), len(lines))
    negative = "\n".join(lines[start:]).strip().removeprefix("Negative prompt:").strip()
    return "\n".join(lines[:start]).strip(), negative, fields


def _parameters(line: str) -> Iterator[tuple[str, str]]:
    for name, value in _PARAMETER.findall(line):
        try:
            yield name, str(json.loads(value)) if value.startswith('"') else value.strip()
        except ValueError:
            yield name, value


#: The chunks that make a record, the most telling first.
_READERS: tuple[tuple[str, str, Reader], ...] = (
    (OWN_CHUNK, "invokeai-daemon", _read_own),
    (INVOKEAI_CHUNK, "invokeai", _read_invokeai),
    ("sd-metadata", "invokeai-2", _read_sd_metadata),
    ("Dream", "invokeai-2", _read_dream),
    (A1111_CHUNK, "a1111", _read_a1111),
)
