"""AUTOMATIC1111's `parameters` text, and ours that is written like it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from math import isqrt
from pathlib import PurePath
from typing import Any

from invokeai_daemon.job.plan_job import OPTIONAL
from invokeai_daemon.job.records.collector import A1111_CHUNK, OWN_FIELD, OWN_VERSION, Collector
from invokeai_daemon.job.schedulers import from_a1111
from invokeai_daemon.strict_toml import show

_PARAMETER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
#: JSON without quotes around it, which has no place among fields but is there for Civitai.
_HASHES = re.compile(r"(?:^|, )Hashes: \{[^}]*\}")
#: What may follow a model's name: its short hash.
_HASH_BEHIND = re.compile(r"\s*\[[0-9a-f]+\]$")
_WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_EXTRAS = {"Face restoration": "face restoration", "ENSD": "a seed offset"}
#: Fields of the high resolution fix that are read; others of its name would change the picture.
_HIRES_READ = ("Hires upscale", "Hires resize", "Hires steps", "Hires upscaler")
_NOTHING = (None, "", "0", "None")


def read(chunks: Mapping[str, str], found: Collector) -> dict[str, Any]:
    prompt, negative, fields = split_parameters(chunks[A1111_CHUNK])
    found.job.update(prompt=prompt, negative_prompt=negative, prompt_syntax="a1111")
    found.take("model", fields.get("Model"))
    for key, name in (("steps", "Steps"), ("seed", "Seed")):
        found.take(key, int(fields[name]) if name in fields else None)
    for key, name in (("cfg_scale", "CFG scale"), ("guidance", "Distilled CFG Scale")):
        found.take(key, float(fields[name]) if name in fields else None)
    if "Size" in fields:
        found.job.update(zip(("width", "height"), _size(fields["Size"]), strict=True))
    if "Sampler" in fields:
        words = f"{fields['Sampler']} {fields.get('Schedule type', '')}".strip()
        found.scheduler("Sampler", words, from_a1111(fields["Sampler"], fields.get("Schedule type", "")))
    if fields.get("Clip skip", "1") != "1":
        found.take("clip_skip", int(fields["Clip skip"]) - 1)
    if fields.get("Tiling") == "True":
        found.job.update(seamless_x=True, seamless_y=True)
    is_ours = fields.get("Version", "").startswith(OWN_VERSION)
    # AUTOMATIC1111 may write the seed of a variation that is off.
    if "Variation seed strength" in fields and (is_ours or float(fields["Variation seed strength"])):
        found.take_variations([(int(fields["Variation seed"]), float(fields["Variation seed strength"]))])
    if is_ours:
        _own(json.loads(fields.get(OWN_FIELD, "{}")), found)
    else:
        _theirs(fields, found)
    return {"prompt": prompt, "negative_prompt": negative, "parameters": fields}


def lora_tags(loras: Iterable[Mapping[str, Any]]) -> str:
    """`<lora:name:weight>` for each that can be written so: what follows the prompt in texts of ours."""
    return "".join(f" {_tag(each)}" for each in loras if not set(":<>\n") & set(each["name"]))


def _tag(lora: Mapping[str, Any]) -> str:
    weight, text_encoder = lora.get("weight", 1.0), lora.get("text_encoder_weight")
    weights = f"{weight:g}" if text_encoder is None else f"{text_encoder:g}:{weight:g}"
    return f"<lora:{lora['name']}:{weights}>"


def model_name(text: str) -> str:
    """`name.safetensors` and `name [0123456789]` as a model is called here."""
    name = _HASH_BEHIND.sub("", text)
    return PurePath(name).stem if name.lower().endswith(_WEIGHTS) else name


def split_parameters(text: str) -> tuple[str, str, dict[str, str]]:
    """AUTOMATIC1111's text: the prompt, the negative prompt, and the fields of the last line."""
    lines = text.strip().split("\n")
    fields: dict[str, str] = {}
    if len(_PARAMETER.findall(lines[-1])) >= 3:
        fields = dict(_parameters(_HASHES.sub("", lines.pop())))
    start = next((n for n, line in enumerate(lines) if line.strip().startswith("Negative prompt:")), len(lines))
    negative = "\n".join(lines[start:]).strip().removeprefix("Negative prompt:").strip()
    return "\n".join(lines[:start]).strip(), negative, fields


def _parameters(line: str) -> Iterator[tuple[str, str]]:
    for name, value in _PARAMETER.findall(line):
        try:
            yield name, str(json.loads(value)) if value.startswith('"') else value.strip()
        except ValueError:
            yield name, value


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


# --- texts of ours -----------------------------------------------------------------------------------------------


def _own(values: dict[str, Any], found: Collector) -> None:
    """What the other fields do not tell, or only to others."""
    for key in OPTIONAL:
        found.take(key, values.get(key))
    found.take_variations(values.get("variations", ()))
    found.take_tables(values)
    tags = lora_tags(values.get("loras", ())).strip()
    found.job["prompt"] = found.job["prompt"].removesuffix(tags).strip() if tags else found.job["prompt"]


# --- texts of others ---------------------------------------------------------------------------------------------


def _theirs(fields: Mapping[str, str], found: Collector) -> None:
    if fields.get("Hires upscale", fields.get("Hires resize")) not in _NOTHING:
        _hires(fields, found)
    elif fields.get("Mask blur") is not None:
        found.lacks("Mask blur", "a picture and a mask", "Write a job with [init] and [mask].")
    elif fields.get("Denoising strength") not in _NOTHING:
        hint = f'Write a job with [init] image = "…", strength = {fields["Denoising strength"]}.'
        found.lacks("Denoising strength", "an init image", hint)
    if fields.get("VAE") not in (*_NOTHING, "Automatic"):
        found.take("vae", model_name(fields["VAE"]))
    if fields.get("Refiner") not in _NOTHING:
        start = {"start": float(fields["Refiner switch at"])} if "Refiner switch at" in fields else {}
        found.take("refiner", {"model": model_name(fields["Refiner"]), **start})
    for key, value in fields.items():
        if key.startswith("ControlNet ") and key.removeprefix("ControlNet ").isdigit():
            model = re.search(r"Model: ([^,]+)", value, re.IGNORECASE)
            by = f" that is followed by {show(model_name(model[1]))}" if model else ""
            found.lacks(key, f"a picture{by}", "Write a job with [[controlnets]] that names the picture.")
    for key, what in _EXTRAS.items():
        if fields.get(key) not in _NOTHING:
            found.refuse(key, what)


def _hires(fields: Mapping[str, str], found: Collector) -> None:
    """The high resolution fix; AUTOMATIC1111's size is that of the first pass, a job's that of the result."""
    first = _size(fields["Size"])
    if fields.get("Hires resize") is not None:
        width, height = _size(fields["Hires resize"])
    else:
        scale = float(fields["Hires upscale"])
        width, height = (int(side * scale) for side in first)
    found.job.update(width=width - width % 8, height=height - height % 8)
    side = isqrt(first[0] * first[1]) // 8 * 8
    found.take("hires", {"strength": float(fields.get("Denoising strength", 0.7)), "size": side})
    if fields.get("Hires upscaler", "Latent") != "Latent":
        found.refuse("Hires upscaler", f"an enlargement by {show(fields['Hires upscaler'])}")
    if fields.get("Hires steps", "0") not in ("0", fields.get("Steps")):
        found.refuse("Hires steps", "a second pass that has steps of its own")
    for key in fields:
        if key.startswith("Hires ") and key not in _HIRES_READ:
            found.refuse(key, f"a second pass that has another {key.removeprefix('Hires ')}")
