"""InvokeAI's core metadata of an image, as version 3 and later write it and recall it. Called by `metadata.chunks`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invokeai_daemon import __version__
from invokeai_daemon.job.plan import Image, ModelRef, Plan
from invokeai_daemon.job.plan_job import AS_ASKED
from invokeai_daemon.job.prompt.understand import as_invokeai
from invokeai_daemon.job.records import OWN_FIELD

#: How InvokeAI's modes begin for a base; for others with the base's own name.
_PREFIXES: Mapping[str, str] = {"sd-1": "", "sd-2": "", "sd-3": "sd3_", "sdxl-refiner": "sdxl_"}


def core_metadata(plan: Plan, image: Image) -> dict[str, Any]:
    """What InvokeAI recalls of an image; its models are found by key or by hash and name."""
    model = plan.model
    prompt, negative = as_invokeai(image.prompt, image.negative_prompt, image.prompt_syntax, old=False)
    return {
        "generation_mode": _PREFIXES.get(model.base, f"{model.base.replace('-', '_')}_") + mode(image),
        "positive_prompt": prompt,
        "negative_prompt": negative,
        **_styles(model, image),
        "width": image.width,
        "height": image.height,
        "seed": image.seed,
        "rand_device": "cpu",
        "cfg_scale": image.cfg_scale,
        "steps": image.steps,
        "scheduler": image.scheduler,
        "model": identified(model),
        **_pictures(image),
        **_adapters(plan, image),
        **_passes(plan, image),
        **_unusual(image),
        "app_version": f"invokeai-daemon {__version__}",
    }


def mode(image: Image) -> str:
    """InvokeAI's word for the way an image was made."""
    if image.outpaint:
        return "outpaint"
    if image.mask:
        return "inpaint"
    return "img2img" if image.init else "txt2img"


def identified(model: ModelRef) -> dict[str, str]:
    """A model as InvokeAI names it in metadata."""
    return {
        "key": model.hash or model.name,
        "hash": model.hash,
        "name": model.name,
        "base": model.base,
        "type": model.type,
    }


def _named(plan: Plan, type: str, name: str) -> dict[str, str]:
    return identified(plan.find_reference(type, name) or ModelRef(name, "", plan.model.base, type))


def _styles(model: ModelRef, image: Image) -> dict[str, str]:
    """Empty style prompts say that both text encoders of SDXL read the prompts.

    Without them InvokeAI would keep those that its user had there before.
    """
    if model.base != "sdxl":
        return {}
    style, negative = as_invokeai(
        image.style_prompt or "", image.negative_style_prompt or "", image.prompt_syntax, old=False
    )
    return {"positive_style_prompt": style, "negative_style_prompt": negative}


def _pictures(image: Image) -> dict[str, Any]:
    if image.init is None:
        return {}
    return {"init_image": image.init.image, "strength": image.init.strength}


def _adapters(plan: Plan, image: Image) -> dict[str, Any]:
    """Those that there are, in lists of InvokeAI's names."""
    lists = {
        "loras": [{"model": _named(plan, "lora", each.name), "weight": each.weight} for each in image.loras],
        "controlnets": [
            {
                "control_model": _named(plan, "controlnet", each.name),
                "image": {"image_name": each.image},
                "processed_image": None,
                "control_weight": each.weight,
                **_during(each),
                "control_mode": each.control_mode,
                "resize_mode": each.resize_mode,
            }
            for each in image.controlnets
        ],
        "t2iAdapters": [
            {
                "t2i_adapter_model": _named(plan, "t2i_adapter", each.name),
                "image": {"image_name": each.image},
                "processed_image": None,
                "weight": each.weight,
                **_during(each),
                "resize_mode": each.resize_mode,
            }
            for each in image.t2i_adapters
        ],
        "ipAdapters": [
            {
                "ip_adapter_model": _named(plan, "ip_adapter", each.name),
                "image": {"image_name": each.image},
                "method": each.method,
                "weight": each.weight,
                **_during(each),
            }
            for each in image.ip_adapters
        ],
    }
    return {key: listed for key, listed in lists.items() if listed}


def _during(table: Any) -> dict[str, float]:
    return {"begin_step_percent": table.begin, "end_step_percent": table.end}


def _passes(plan: Plan, image: Image) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if image.vae:
        said["vae"] = _named(plan, "vae", image.vae)
    if image.hires:
        said |= {"hrf_enabled": True, "hrf_method": "bilinear", "hrf_strength": image.hires.strength}
    if image.refiner:
        said |= {
            "refiner_model": _named(plan, "main", image.refiner.model),
            "refiner_cfg_scale": image.cfg_scale,
            "refiner_steps": image.steps,
            "refiner_scheduler": image.scheduler,
            "refiner_positive_aesthetic_score": image.refiner.positive_aesthetic_score,
            "refiner_negative_aesthetic_score": image.refiner.negative_aesthetic_score,
            "refiner_start": image.refiner.start,
        }
    return said


def _unusual(image: Image) -> dict[str, Any]:
    """What else is not as usual: plain values by their names, some of which are InvokeAI's; tables as a job has them.

    InvokeAI passes over what it does not know.
    """
    unusual = {key: value for key, value in image.unusual.items() if key not in ("prompt_syntax", "vae")}
    tables = {key: unusual.pop(key) for key in AS_ASKED if key in unusual}
    return {**unusual, **({OWN_FIELD: tables} if tables else {})}
