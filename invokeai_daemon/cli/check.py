"""`check`: validates a job and says what would run, without running it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

import click

from invokeai_daemon.cli.drops import read_drop
from invokeai_daemon.cli.ingredients import ingredients
from invokeai_daemon.cli.options import with_root
from invokeai_daemon.daemon.planning import Planner
from invokeai_daemon.errors import ModelMissing
from invokeai_daemon.job.parse import parse_defaults
from invokeai_daemon.job.plan import Plan
from invokeai_daemon.job.prompt.printing import shown
from invokeai_daemon.job.prompt.understand import understood
from invokeai_daemon.job.schema import MAX_SEED, Job
from invokeai_daemon.models.registry import Registry
from invokeai_daemon.root import Root
from invokeai_daemon.settings import load_settings
from invokeai_daemon.spool.names import parse_queued, safe_id


@click.command()
@click.argument("path", metavar="JOB", type=click.Path(path_type=Path))
@with_root
def check(root: Root, path: Path) -> int:
    """Validate the job file JOB and print what would run. Exits 1 with every problem when it is not valid."""
    drop = read_drop(path)
    planner = planner_of(root, path.absolute().parent)
    for job in drop.jobs:
        click.echo("\n".join(forecast(job, path, planner)))
    return 0


def planner_of(root: Root, beside: Path) -> Planner:
    """The daemon's own planner, for a job that lies in a folder and would be dropped with what is beside it.

    Raises SettingsError.
    """
    settings = load_settings(root.settings_file)
    limits = settings.limits
    limits = limits.model_copy(update={"image_folders": [*limits.image_folders, str(beside)]})
    settings = settings.model_copy(update={"limits": limits})
    defaults = parse_defaults(settings.defaults, str(root.settings_file))
    return Planner(root, settings, defaults, Registry(root))


def forecast(job: Job, path: Path, planner: Planner) -> list[str]:
    """What the daemon would do with a valid job. Raises JobError where models, pictures or settings forbid it."""
    queued = parse_queued(path.name)
    drawn: list[int] = []

    def draw() -> int:
        drawn.append(secrets.randbelow(MAX_SEED + 1))
        return drawn[-1]

    try:
        plan = planner.plan(
            job, queued.id if queued else safe_id(path.stem), seed=draw, places=[path.absolute().parent]
        )
    except ModelMissing as missing:
        return [f"{job.source.where} is valid. It would wait: {missing}"]
    return [
        f"{job.source.where} is valid. {described(plan)}",
        seeds(plan, drawn),
        *ingredients(plan),
        *prompts(plan),
    ]


def described(plan: Plan) -> str:
    image = plan.images[0]
    count = f"{len(plan.images)} images" if len(plan.images) > 1 else "1 image"
    size = f"{image.width} × {image.height}"
    guidance = f"cfg_scale {image.cfg_scale:g}"
    return (
        f"It would make {count} of {size} with {plan.model.name}: {image.steps} steps of {image.scheduler}, {guidance}."
    )


def prompts(plan: Plan) -> list[str]:
    """How the prompts are understood, where they are more than words."""
    image = plan.images[0]
    seen = understood(image)
    said = {"prompt": image.prompt, "negative_prompt": image.negative_prompt}
    lines = [
        f"{key}: {shown(tree)}"
        for key, tree in (("prompt", seen.positive), ("negative_prompt", seen.negative))
        if tree.plain_text != said[key]
    ]
    meant = [f"{each.asked} means the embedding {each.name}." for each in plan.references if each.type == "embedding"]
    notes = [f"Note: {ended(warning)}" for warning in (*seen.warnings, *plan.warnings)]
    return [*lines, *meant, *notes]


def ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def seeds(plan: Plan, drawn: Sequence[int]) -> str:
    """The seeds of the images; `drawn` are those that the start of the job will draw anew."""
    first, last = plan.images[0].seed, plan.images[-1].seed
    if first in drawn:
        return "The seed is drawn when it starts."
    told = f"Seed {first}" if first == last else f"Seeds {first} … {last}"
    return f"{told}; those of the variations are drawn when it starts." if drawn else f"{told}."
