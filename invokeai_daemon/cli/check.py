"""`check`: validates a job and says what would run, without running it."""

from __future__ import annotations

from pathlib import Path

import click

from invokeai_daemon.cli.drops import read_drop
from invokeai_daemon.cli.options import with_root
from invokeai_daemon.errors import ModelMissing
from invokeai_daemon.job.plan import ModelRef, Plan
from invokeai_daemon.job.plan_job import model_name, resolve
from invokeai_daemon.job.schema import Job
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings, load_settings


@click.command()
@click.argument("path", metavar="JOB", type=click.Path(path_type=Path))
@with_root
def check(root: Root, path: Path) -> int:
    """Validate the job file JOB and print what would run. Exits 1 with every problem when it is not valid."""
    drop = read_drop(path)
    settings = load_settings(root.settings_file)
    for job in drop.jobs:
        click.echo("\n".join(forecast(job, path.stem, root, settings)))
    return 0


def forecast(job: Job, job_id: str, root: Root, settings: Settings) -> list[str]:
    """What the daemon would do with a valid job. Raises JobError where the settings' limits forbid it."""
    asked = model_name(job, settings.defaults)
    if asked is None:
        return [f"{job.source.where} is valid. It names no model, and the settings have no default."]
    try:
        model = Registry(root).usable(asked)
    except ModelMissing as missing:
        return [f"{job.source.where} is valid. It would wait: {missing}"]
    plan = plan_of(job, job_id, model, settings)
    return [f"{job.source.where} is valid. {described(plan)}", *_seeds(job, plan, settings)]


def plan_of(job: Job, job_id: str, model: Entry, settings: Settings) -> Plan:
    """The plan as the daemon would make it; a seed that nothing names is 0 here."""
    reference = ModelRef(
        model.name, model.path, model.base, model.type, model.hash, model.variant, model.prediction_type
    )
    return resolve(
        job,
        job_id,
        reference,
        model_defaults=model.default_settings,
        settings_defaults=settings.defaults,
        base=model.base,
        draw_seed=lambda: 0,
        file_name=settings.output.file_name,
        limits=settings.limits,
    )


def described(plan: Plan) -> str:
    image = plan.images[0]
    count = f"{len(plan.images)} images" if len(plan.images) > 1 else "1 image"
    size = f"{image.width} × {image.height}"
    guidance = f"cfg_scale {image.cfg_scale:g}"
    return (
        f"It would make {count} of {size} with {plan.model.name}: {image.steps} steps of {image.scheduler}, {guidance}."
    )


def _seeds(job: Job, plan: Plan, settings: Settings) -> list[str]:
    if job.seed is None and job.seeds is None and "seed" not in settings.defaults:
        return ["The seed is drawn when it starts."]
    first, last = plan.images[0], plan.images[-1]
    return [f"Seed {first.seed}" if first is last else f"Seeds {first.seed} … {last.seed}"]
