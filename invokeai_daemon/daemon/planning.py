"""Planning: which model a job gets, and its plan; the plan of a job that was begun before. Called by `jobs`.

Raises JobError where the user must act, ModelMissing where the job can wait.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from invokeai_daemon.errors import JobError, Problem, UnfitModel
from invokeai_daemon.job.plan import ModelRef, Plan
from invokeai_daemon.job.plan_job import COMMON_DEFAULTS, from_resolved, model_name, resolve
from invokeai_daemon.job.prompt.understand import understand
from invokeai_daemon.job.schema import MAX_SEED, Job
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.output.results import Results
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from invokeai_daemon.strict_toml import show


def draw_seed() -> int:
    return secrets.randbelow(MAX_SEED + 1)


class Planner:
    """Makes plans with the models and settings of one root. `defaults` are the checked `[defaults]` of the settings."""

    def __init__(self, root: Root, settings: Settings, defaults: Mapping[str, Any], registry: Registry) -> None:
        self._root = root
        self._settings = settings
        self._defaults = defaults
        self._registry = registry

    def priority(self, job: Job) -> int:
        return job.priority if job.priority is not None else int(self._defaults.get("priority", 0))

    def image_count(self, job: Job) -> int:
        if job.seeds is not None:
            return len(job.seeds)
        return job.iterations if job.iterations is not None else int(self._defaults.get("iterations", 1))

    def model(self, job: Job) -> Entry:
        """The model that a job names, or the default one. Raises ModelMissing, or JobError when none like it can do."""
        name = model_name(job, self._defaults)
        if name is None:
            return self._registry.default_main()
        return self._usable(name, job.source.where, job.source.lines.get("model"))

    def _usable(self, name: str, where: str, line: int | None = None) -> Entry:
        try:
            return self._registry.usable(name)
        except UnfitModel as error:
            able = [entry.name for entry in self._registry.models() if entry.status == "ok" and entry.is_renderable]
            hint = f"Use {' or '.join(able[:5])}." if able else "Drop one into autoimport/main/ and name that."
            raise JobError(where, [Problem(str(error), "model", line, hint)]) from None

    def plan(self, job: Job, job_id: str, seed: Callable[[], int] = draw_seed) -> Plan:
        """The plan of a job."""
        # First, since no model that arrives later mends a prompt.
        self._check_prompts(job)
        entry = self.model(job)
        return resolve(
            job,
            job_id,
            _reference(entry),
            model_defaults=entry.default_settings,
            settings_defaults=self._defaults,
            base=entry.base,
            draw_seed=seed,
            file_name=self._settings.output.file_name,
            limits=self._settings.limits,
        )

    def _check_prompts(self, job: Job) -> None:
        asked = {**COMMON_DEFAULTS, **self._defaults, **job.model_dump(exclude_none=True)}
        seen = understand(job.prompt, asked["negative_prompt"], asked["prompt_syntax"])
        problems = [*seen.problems]
        if asked["prompt_syntax"] != "plain":
            problems += self._registered(seen.positive.triggers, "prompt")
            problems += self._registered(seen.negative.triggers, "negative_prompt")
        if problems:
            lines = job.source.lines
            raise JobError(job.source.where, [replace(each, line=lines.get(each.key)) for each in problems])

    def _registered(self, triggers: Iterable[str], key: str) -> Iterator[Problem]:
        """What `<name>` in a prompt asks for, where it is there; other names are words, and a warning of the engine."""
        for name in triggers:
            entry = self._registry.get(name)
            if entry is not None and entry.type == "embedding":
                yield Problem(f"The embedding {show(name)} is not supported yet.", key, hint="Remove it.")

    def results(self, job_id: str) -> Results:
        return Results(self._root.outputs / job_id)

    def begun(self, job_id: str) -> Plan | None:
        """The plan that an earlier start of this job wrote beside its images; None when there is none to be read."""
        file = self.results(job_id).job_file
        with suppress(OSError, JobError):
            return from_resolved(file.read_bytes(), str(file))
        return None

    def resume(self, begun: Plan) -> Plan:
        """The plan of a job that a stop interrupted, with its model as it is now, whatever defaults are now."""
        entry = self._usable(begun.model.name, begun.job_id)
        if begun.model.hash and entry.hash and entry.hash != begun.model.hash:
            hint = "Drop the job again to make all images with the new model."
            message = f"The model {entry.name} is another one since the job was begun."
            raise JobError(begun.job_id, [Problem(message, "model", hint=hint)])
        return replace(begun, model=_reference(entry))

    def continues(self, begun: Plan, job: Job) -> Plan | None:
        """The begun plan with its model as it is now, if the job still asks for the same; else None."""
        first_seed = begun.images[0].seed
        now = self.plan(job, begun.job_id, seed=lambda: first_seed)
        is_same = now.images == begun.images and now.model.name == begun.model.name
        if not is_same or (begun.model.hash and now.model.hash and now.model.hash != begun.model.hash):
            return None
        return replace(begun, model=now.model, priority=now.priority)


def _reference(entry: Entry) -> ModelRef:
    return ModelRef(
        name=entry.name,
        path=entry.path,
        base=entry.base,
        type=entry.type,
        hash=entry.hash,
        variant=entry.variant,
        prediction_type=entry.prediction_type,
    )
