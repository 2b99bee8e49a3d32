"""From a job to its plan: defaults fill in, seeds are drawn and counted, limits are checked. And a plan as a job file.

Called by the daemon when a job starts, and after a restart to read the plan back. Draws nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from math import isqrt
from types import MappingProxyType
from typing import Any

from invokeai_daemon.errors import JobError, Problem
from invokeai_daemon.job.fitting import SMALLEST, STEP, Size, fitted, outpainted, own_size
from invokeai_daemon.job.limits import check_limits
from invokeai_daemon.job.parse import parse_job
from invokeai_daemon.job.plan import USUAL, Image, Input, ModelRef, Plan
from invokeai_daemon.job.schedulers import schedulers_of
from invokeai_daemon.job.schema import MAX_SEED, Hires, Job, Values, Variation
from invokeai_daemon.job.usual import usual
from invokeai_daemon.settings import LimitSettings
from invokeai_daemon.strict_toml import Document, dump_toml, validate

#: The scheduler of whoever names none; every model can be rendered with it.
SCHEDULER = "euler"
#: What a job gets when neither it, nor its model, nor the settings say; the rest is usual for the kind of its model.
COMMON_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "negative_prompt": "",
        "prompt_syntax": "invokeai",
        "scheduler": SCHEDULER,
        "iterations": 1,
        "priority": 0,
    }
)
#: The keys of a model's default settings that are a job's; the others (vae, …) are not about the picture asked for.
MODEL_KEYS = frozenset(
    {"width", "height", "steps", "cfg_scale", "cfg_rescale_multiplier", "guidance", "scheduler", "negative_prompt"}
)
#: The keys of a job that need no default: without them an image is as usual.
OPTIONAL: tuple[str, ...] = tuple(key for key in USUAL if key in Values.model_fields)
#: The keys of a job that have no defaults anywhere: an image has them as they are asked.
AS_ASKED: tuple[str, ...] = tuple(key for key in USUAL if key in Job.model_fields and key not in Values.model_fields)


def model_name(job: Job, settings_defaults: Mapping[str, Any]) -> str | None:
    """The model that a job asks for, by itself or through `[defaults]`; None when neither names one."""
    return job.model if job.model is not None else settings_defaults.get("model")


def resolve(
    job: Job,
    job_id: str,
    model: ModelRef,
    *,
    model_defaults: Mapping[str, Any],
    settings_defaults: Mapping[str, Any],
    draw_seed: Callable[[], int],
    file_name: str,
    limits: LimitSettings,
    init_size: Size | None = None,
) -> Plan:
    """The plan of a job: each value from the job, else the model, else the settings, else the base.

    `draw_seed` gives 0 … 2³²−1 and is called for a seed that nothing names: the first, and the first variation's.
    `init_size` is that of the init image, upright; without it the size of the result is what is asked.
    Raises JobError.
    """
    asked = job.model_dump(include=set(Values.model_fields), exclude_none=True)
    values = _fitting(model, {**settings_defaults, **_model_defaults(model, model_defaults)}) | asked
    if init_size is not None:
        values.update(_size_from(job, init_size, (values["width"], values["height"])))
    side = usual(model.base, model.variant, model.prediction_type).side
    check_limits(job, values, _hires(job, model_defaults), side, limits)
    _check_run(job, values)
    seeds, variations = _seeds_and_variations(job, values, draw_seed)
    images = tuple(
        Image(
            number=number,
            seed=seed,
            prompt=job.prompt,
            negative_prompt=values["negative_prompt"],
            width=values["width"],
            height=values["height"],
            steps=values["steps"],
            cfg_scale=float(values["cfg_scale"]),
            scheduler=values["scheduler"],
            variations=mixed,
            **{key: values[key] for key in OPTIONAL if key in values},
            **_as_asked(job, model_defaults),
        )
        for number, (seed, mixed) in enumerate(zip(seeds, variations, strict=True), start=1)
    )
    return Plan(job_id, model, images, values["priority"], file_name, job.carried)


def _as_asked(job: Job, model_defaults: Mapping[str, Any]) -> dict[str, Any]:
    asked = {key: getattr(job, key) for key in AS_ASKED}
    asked["hires"] = _hires(job, model_defaults)
    return {key: tuple(value) if isinstance(value, list) else value for key, value in asked.items()}


def _hires(job: Job, model_defaults: Mapping[str, Any]) -> Hires | None:
    """The first pass of a large picture has the area of the model's own pictures, where its default settings say it."""
    width, height = (model_defaults.get(key) for key in ("width", "height"))
    if job.hires is None or job.hires.size is not None or not width or not height:
        return job.hires
    return job.hires.model_copy(update={"size": max(SMALLEST, isqrt(width * height) // STEP * STEP)})


def to_toml(plan: Plan) -> str:
    """The plan as a job file that makes the same pictures; `from_resolved` reads the same plan back."""
    first = plan.images[0]
    values: dict[str, Any] = {
        "model": plan.model.name,
        "prompt": first.prompt,
        "negative_prompt": first.negative_prompt,
        "width": first.width,
        "height": first.height,
        "steps": first.steps,
        "cfg_scale": first.cfg_scale,
        "scheduler": first.scheduler,
        **{key: getattr(first, key) for key in OPTIONAL},
        **{key: value for key, value in first.as_json().items() if key in AS_ASKED and value not in ([], None)},
        **_seed_keys(plan.images),
        "priority": plan.priority,
        **plan.meta,
        "resolved": {"job": plan.job_id, "file_name": plan.file_name, "model": asdict(plan.model)} | _references(plan),
    }
    return dump_toml(values)


def _references(plan: Plan) -> dict[str, Any]:
    listed = {
        "references": [asdict(each) for each in plan.references],
        "inputs": [asdict(each) for each in plan.inputs],
        "warnings": list(plan.warnings),
    }
    return {key: value for key, value in listed.items() if value}


def from_resolved(raw: bytes, where: str) -> Plan:
    """The plan that `to_toml` wrote. Raises JobError when the file is damaged or is no resolved job."""
    job = parse_job(raw, where)
    if job.resolved is None:
        raise JobError(where, [Problem("This is no resolved job: it has no [resolved] table.")])
    model = ModelRef(**job.resolved.model.model_dump())
    plan = resolve(
        job,
        job.resolved.job,
        model,
        model_defaults={},
        settings_defaults={},
        draw_seed=lambda: 0,
        file_name=job.resolved.file_name,
        limits=_NO_LIMITS,
    )
    return replace(
        plan,
        references=tuple(ModelRef(**each.model_dump()) for each in job.resolved.references),
        inputs=tuple(Input(**each.model_dump()) for each in job.resolved.inputs),
        warnings=tuple(job.resolved.warnings),
    )


#: What was accepted once is not judged again by limits that may have changed since.
_NO_LIMITS = LimitSettings(max_images=2**31, max_pixels=2**62)


def _seed_keys(images: Sequence[Image]) -> dict[str, Any]:
    """Seeds and variations. Images differ in these only as `_seeds_and_variations` makes them differ."""
    seeds, listed = [image.seed for image in images], images[0].variations
    variation: dict[str, Any]
    if all(image.variations == listed for image in images):
        expected = _counted(seeds[0], len(seeds))
        variation = {"with": listed or None}
    else:
        *others, (seed, amount) = listed
        expected = [seeds[0]] * len(seeds)
        variation = {"amount": amount, "seed": seed, "with": others or None}
    said = {"seed": seeds[0], "iterations": len(seeds)} if seeds == expected else {"seeds": seeds}
    return {**said, "variation": variation if any(variation.values()) else None}


def _fitting(model: ModelRef, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What a job of a model gets when it does not say: these defaults, as far as the model can heed them, else what is
    usual for it.
    """
    known = usual(model.base, model.variant, model.prediction_type)
    values = {
        **COMMON_DEFAULTS,
        "width": known.side,
        "height": known.side,
        "steps": known.steps,
        "cfg_scale": known.cfg_scale,
        "guidance": known.guidance,
        **defaults,
    }
    if known.guidance is None:
        del values["guidance"]
    if values["scheduler"] not in schedulers_of(model.base):
        values["scheduler"] = SCHEDULER
    return values


def _model_defaults(model: ModelRef, defaults: Mapping[str, Any]) -> dict[str, Any]:
    asked = {key: value for key, value in defaults.items() if key in MODEL_KEYS and value is not None}
    if not asked:
        return {}
    document = Document(f"the default settings of model {model.name}", asked, {})
    return validate(Values, document, JobError).model_dump(exclude_none=True)


def _size_from(job: Job, init_size: Size, box: Size) -> dict[str, int]:
    """The size of a picture that is made from another one."""
    assert job.init is not None
    if job.outpaint is None and job.init.fit:
        width, height = fitted(init_size, box)
        if min(width, height) < SMALLEST:
            message = f"{_shown(init_size)} fits into {_shown(box)} as {_shown((width, height))} only."
            hint = f"Take a picture that is less long, or a larger width and height: no side may be below {SMALLEST}."
            raise JobError(job.source.where, [Problem(message, "init.image", job.source.lines.get("init.image"), hint)])
        return {"width": width, "height": height}
    canvas = outpainted(init_size, job.outpaint) if job.outpaint is not None else None
    width, height = (canvas.width, canvas.height) if canvas is not None else own_size(init_size)
    _check_own_size(job, (width, height), "its extents" if canvas is not None else "fit = false")
    return {"width": width, "height": height}


def _check_own_size(job: Job, size: Size, why: str) -> None:
    """A job may say the size that follows from its init image, as a job.toml does, and no other."""
    problems = []
    for key, side in zip(("width", "height"), size, strict=True):
        asked, line = getattr(job, key), job.source.lines.get(key)
        if asked not in (None, side):
            message = f"the size follows from the init image and {why}: {_shown(size)}, not {asked}."
            problems.append(Problem(message, key, line, "Remove it."))
    if min(size) < SMALLEST:
        message = f"the picture would have {_shown(size)} pixels; no side may be below {SMALLEST}."
        problems.append(Problem(message, "init.image", job.source.lines.get("init.image"), "Take a larger one."))
    if problems:
        raise JobError(job.source.where, problems)


def _shown(size: Size) -> str:
    return f"{size[0]} × {size[1]}"


def _check_run(job: Job, values: Mapping[str, Any]) -> None:
    start, end = (values.get(key, USUAL[key]) for key in ("denoising_start", "denoising_end"))
    if start >= end:
        key = "denoising_start" if "denoising_start" in job.source.lines else "denoising_end"
        message = f"the run would begin at {start:g} and end at {end:g}."
        problem = Problem(message, key, job.source.lines.get(key), "Let denoising_start be less than denoising_end.")
        raise JobError(job.source.where, [problem])


def _seeds_and_variations(
    job: Job, values: Mapping[str, Any], draw_seed: Callable[[], int]
) -> tuple[list[int], list[tuple[tuple[int, float], ...]]]:
    """For each image its seed and what is mixed into its noise.

    As in 2.3, images of a variation amount share one seed, and each has another one mixed in.
    """
    variation = job.variation or Variation()
    listed = tuple(variation.listed)
    seeds = _seeds(job, values, draw_seed, is_counted=not variation.amount)
    if not variation.amount:
        return seeds, [listed] * len(seeds)
    others = _counted(draw_seed() if variation.seed is None else variation.seed, len(seeds))
    return seeds, [(*listed, (other, variation.amount)) for other in others]


def _seeds(job: Job, values: Mapping[str, Any], draw_seed: Callable[[], int], is_counted: bool) -> list[int]:
    if job.seeds is not None:
        return list(job.seeds)
    first = values["seed"] if "seed" in values else draw_seed()
    return _counted(first, values["iterations"]) if is_counted else [first] * values["iterations"]


def _counted(first: int, count: int) -> list[int]:
    return [(first + number) & MAX_SEED for number in range(count)]
