"""InvokeAI's core metadata, version 3 and later, and ours that is written like it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invokeai_daemon.job.plan_job import OPTIONAL
from invokeai_daemon.job.prompt.legacy import escaped
from invokeai_daemon.job.records.collector import INVOKEAI_CHUNK, OWN_FIELD, OWN_VERSION, Collector, json_object
from invokeai_daemon.job.schedulers import canonical
from invokeai_daemon.strict_toml import show

#: Prompts for SDXL's second text encoder alone: the keys of a job, and the prompts that it reads without them.
_STYLES = {
    "positive_style_prompt": ("style_prompt", "positive_prompt"),
    "negative_style_prompt": ("negative_style_prompt", "negative_prompt"),
}
#: Lists of what follows a picture.
_CONTROLS = ("controlnets", "t2iAdapters", "ipAdapters")
#: What the refiner has of its own in InvokeAI, and has from the job here.
_REFINER_OWN = {"refiner_cfg_scale": "cfg_scale", "refiner_steps": "steps", "refiner_scheduler": "scheduler"}


def read(chunks: Mapping[str, str], found: Collector) -> dict[str, Any]:
    data = json_object(chunks[INVOKEAI_CHUNK])
    found.take("model", _name(data.get("model")))
    found.take("prompt", escaped(data["positive_prompt"]))
    found.take("negative_prompt", escaped(data["negative_prompt"]) if data.get("negative_prompt") is not None else None)
    found.take("prompt_syntax", "invokeai")
    for key in ("width", "height", "steps", "cfg_scale", "seed"):
        found.take(key, data.get(key))
    is_ours = str(data.get("app_version", "")).startswith(OWN_VERSION)
    for key in OPTIONAL:
        if key != "vae":
            found.take(key, data.get(key) if is_ours else data.get(key) or None)
    found.take("vae", _name(data.get("vae")))
    found.take_variations(data.get("variations", ()))
    if data.get("scheduler") is not None:
        found.scheduler("scheduler", data["scheduler"], canonical(str(data["scheduler"])))
    _styles(data, found)
    if is_ours:
        found.take_tables(data.get(OWN_FIELD, {}))
    else:
        _adapters(data, found)
        _pictures(data, found)
        _passes(data, found)
    return data


def _name(model: Any) -> str | None:
    """The name of a model, which 3.0 called otherwise."""
    return (model.get("name") or model.get("model_name")) if model else None


def _styles(data: dict[str, Any], found: Collector) -> None:
    for style, (key, prompt) in _STYLES.items():
        text = (data.get(style) or "").strip()
        if text not in ("", (data.get(prompt) or "").strip()):
            found.take(key, escaped(text))


def _adapters(data: dict[str, Any], found: Collector) -> None:
    loras = [
        {"name": _name(each.get("model") or each.get("lora")), "weight": each.get("weight", 0.75)}
        for each in data.get("loras") or ()
        if each.get("is_enabled", True)
    ]
    found.take("loras", loras or None)
    for key in _CONTROLS:
        for number, each in enumerate(data.get(key) or ()):
            image = (each.get("image") or {}).get("image_name")
            found.lacks(f"{key}[{number}]", _theirs(image), "Copy it, and write a job that names the copy.")


def _theirs(name: Any) -> str:
    return f"{show(name)} in InvokeAI's own outputs" if name else "a picture in InvokeAI's own outputs"


def _pictures(data: dict[str, Any], found: Collector) -> None:
    mode = str(data.get("generation_mode") or "txt2img").rpartition("_")[2]
    if mode in ("inpaint", "outpaint"):
        found.lacks("generation_mode", "a picture and a mask", "Write a job with [init] and [mask], or [outpaint].")
    elif mode == "img2img" or data.get("init_image"):
        strength = f", strength = {data['strength']}" if data.get("strength") is not None else ""
        hint = f'Copy it, and write a job with [init] image = "…"{strength}.'
        found.lacks("init_image", _theirs(data.get("init_image")), hint)
    elif mode != "txt2img":
        found.refuse("generation_mode", f"the mode {show(data['generation_mode'])}")


def _passes(data: dict[str, Any], found: Collector) -> None:
    if data.get("hrf_enabled"):
        if data.get("hrf_method", "bilinear") != "bilinear":
            found.refuse("hrf_method", f"a high resolution fix by {show(data['hrf_method'])}")
        found.take("hires", {"strength": data.get("hrf_strength", 0.45)})
    if data.get("refiner_model"):
        _refiner(data, found)


def _refiner(data: dict[str, Any], found: Collector) -> None:
    keys = {
        "start": data.get("refiner_start"),
        # 3.0 wrote one score, under this name.
        "positive_aesthetic_score": data.get("refiner_positive_aesthetic_score", data.get("refiner_aesthetic_store")),
        "negative_aesthetic_score": data.get("refiner_negative_aesthetic_score"),
    }
    known = {key: value for key, value in keys.items() if value is not None}
    found.take("refiner", {"model": _name(data["refiner_model"]), **known})
    for key, common in _REFINER_OWN.items():
        if data.get(key) not in (None, data.get(common)):
            found.refuse(key, f"a refiner that had {common} {show(data[key])} of its own")
