"""The `parameters` text of an image, which AUTOMATIC1111 and Civitai read. Called by `metadata.chunks`.

What AUTOMATIC1111 has words for is said in them; all that is not as usual and that they do not tell completely stands
as JSON in one field of our own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from invokeai_daemon import __version__
from invokeai_daemon.job.plan import Image, ModelRef, Plan
from invokeai_daemon.job.prompt.understand import as_a1111
from invokeai_daemon.job.records import OWN_FIELD, lora_tags
from invokeai_daemon.job.schedulers import a1111_words

#: What its ControlNet extension calls these. It has nothing like "unbalanced".
RESIZE_MODES = {
    "just_resize": "Just Resize",
    "just_resize_simple": "Just Resize",
    "crop_resize": "Crop and Resize",
    "fill_resize": "Resize and Fill",
}
CONTROL_MODES = {
    "balanced": "Balanced",
    "more_prompt": "My prompt is more important",
    "more_control": "ControlNet is more important",
}


def parameters(plan: Plan, image: Image) -> str:
    """The whole text: prompts, and a line of fields."""
    sampler, schedule = a1111_words(image.scheduler)
    fields = {
        "Steps": image.steps,
        "Sampler": sampler,
        "Schedule type": schedule,
        "CFG scale": f"{image.cfg_scale:g}",
        "Seed": image.seed,
        "Size": f"{image.width}x{image.height}",
        **_unusual(image),
        **_short_hash("Model hash", plan.model),
        "Model": plan.model.name,
        **_vae(plan, image),
        **_passes(image),
        **dict(_controls(plan, image)),
        **_hashes(plan),
        "Version": f"invokeai-daemon {__version__}",
    }
    listed = ", ".join(f"{name}: {_value(value)}" for name, value in fields.items()) + _for_civitai(plan)
    prompt, negative = as_a1111(image.prompt, image.negative_prompt, image.prompt_syntax)
    prompt += lora_tags(image.as_json()["loras"])
    return "\n".join([prompt, *([f"Negative prompt: {negative}"] if negative else []), listed])


def _unusual(image: Image) -> dict[str, Any]:
    """Plain values that are not as usual; tables, whose words here are for others, stand whole in our own field."""
    values = {key: value for key, value in image.unusual.items() if key != "prompt_syntax"}
    said: dict[str, Any] = {}
    if "clip_skip" in values:
        said["Clip skip"] = values.pop("clip_skip") + 1
    if values.get("seamless_x") and values.get("seamless_y"):
        said["Tiling"] = values.pop("seamless_x") and values.pop("seamless_y")
    if len(values.get("variations", ())) == 1:
        [(said["Variation seed"], said["Variation seed strength"])] = values.pop("variations")
    if "guidance" in values:
        said["Distilled CFG Scale"] = values.pop("guidance")
    return {**said, OWN_FIELD: _json(values)} if values else said


def _vae(plan: Plan, image: Image) -> dict[str, str]:
    if image.vae is None:
        return {}
    model = plan.find_reference("vae", image.vae)
    return {**(_short_hash("VAE hash", model) if model else {}), "VAE": image.vae}


def _passes(image: Image) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if image.init:
        said["Denoising strength"] = image.init.strength
    if image.mask:
        said["Mask blur"] = image.mask.blur
    if image.hires:
        said |= {
            "Denoising strength": image.hires.strength,
            "Hires resize": f"{image.width}x{image.height}",
            "Hires steps": image.steps,
            "Hires upscaler": "Latent",
        }
    if image.refiner:
        said |= {"Refiner": image.refiner.model, "Refiner switch at": image.refiner.start}
    return said


def _controls(plan: Plan, image: Image) -> Iterator[tuple[str, str]]:
    """The units of AUTOMATIC1111's ControlNet extension, which takes T2I-Adapters, too."""
    units = [("controlnet", each) for each in image.controlnets] + [
        ("t2i_adapter", each) for each in image.t2i_adapters
    ]
    for number, (type, each) in enumerate(units):
        model = plan.find_reference(type, each.name)
        digits = "".join(f" [{digits[:8]}]" for digits in _sha256(model)) if model else ""
        fields = {
            "Module": each.processor or "none",
            "Model": each.name + digits,
            "Weight": f"{each.weight:g}",
            "Resize Mode": RESIZE_MODES[each.resize_mode],
            "Guidance Start": f"{each.begin:g}",
            "Guidance End": f"{each.end:g}",
            "Control Mode": CONTROL_MODES.get(getattr(each, "control_mode", "balanced")),
        }
        yield f"ControlNet {number}", ", ".join(f"{name}: {value}" for name, value in fields.items() if value)


def _hashes(plan: Plan) -> dict[str, str]:
    """Hashes by which Civitai finds what a picture was made with."""
    said: dict[str, str] = {}
    for type, field in (("lora", "Lora hashes"), ("embedding", "TI hashes")):
        pairs = [f"{each.name}: {digits}" for each in plan.references if each.type == type for digits in _sha256(each)]
        said |= {field: ", ".join(pairs)} if pairs else {}
    return said


def _for_civitai(plan: Plan) -> str:
    """The hashes of all models as bare JSON, which Civitai reads up to the first closing brace."""
    known = {_resource(each): _digits(each) for each in (plan.model, *plan.references) if each.hash}
    return ", Hashes: {" + _json(known)[1:-1].replace("}", "\\u007d") + "}" if plan.references and known else ""


def _resource(model: ModelRef) -> str:
    """What Civitai calls a model in a list of hashes."""
    if model.type == "main":
        return "model" if model.base != "sdxl-refiner" else f"refiner:{model.name}"
    kind = {"embedding": "embed"}.get(model.type, model.type)
    return kind if kind == "vae" else f"{kind}:{model.name}"


def _short_hash(field: str, model: ModelRef) -> dict[str, str]:
    """A1111's short hash is of a sha256, so other hashes are left out instead of misleading Civitai."""
    digits = "".join(_sha256(model))
    return {field: digits[:10]} if digits else {}


def _sha256(model: ModelRef) -> Iterator[str]:
    kind, _, digits = model.hash.partition(":")
    if kind == "sha256":
        yield digits[:12]


def _digits(model: ModelRef) -> str:
    """A sha256 as Civitai shortens it; of other kinds it knows the whole."""
    kind, _, digits = model.hash.partition(":")
    return digits[:10] if kind == "sha256" else digits


def _value(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:\n"') else text


def _json(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"))
