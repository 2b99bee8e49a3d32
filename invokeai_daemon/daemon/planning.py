"""Planning: which models and pictures a job gets, and its plan; the plan of a job that was begun before.

Called by `jobs`, by the arrivals, which have the pictures of a job kept, and by `check`. Raises JobError with all that
the user must mend, ModelMissing where the job can wait.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from invokeai_daemon.daemon.begun import as_it_is, changes, damage, has_same_models
from invokeai_daemon.daemon.findings import Findings, line_of
from invokeai_daemon.daemon.pictures import Pictures, Place
from invokeai_daemon.daemon.triggers import find_embeddings
from invokeai_daemon.daemon.usual_vae import with_usual_vae
from invokeai_daemon.errors import JobError, ModelMissing, Problem, UnfitModel
from invokeai_daemon.job.mentions import pictures_of
from invokeai_daemon.job.plan import Input, Plan
from invokeai_daemon.job.plan_job import COMMON_DEFAULTS, from_resolved, model_name, resolve
from invokeai_daemon.job.prompt.understand import Understood, understand, with_prompts_loras
from invokeai_daemon.job.schema import MAX_SEED, Job
from invokeai_daemon.models.references import reference_to
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.output.inputs import Inputs
from invokeai_daemon.output.looking import PictureError
from invokeai_daemon.output.results import Results
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from invokeai_daemon.spool.names import safe_id


def draw_seed() -> int:
    return secrets.randbelow(MAX_SEED + 1)


class Planner:
    """Makes plans with the models and settings of one root. `defaults` are the checked `[defaults]` of the settings."""

    def __init__(self, root: Root, settings: Settings, defaults: Mapping[str, Any], registry: Registry) -> None:
        self._root = root
        self._settings = settings
        self._defaults = defaults
        self._registry = registry
        self.pictures = Pictures(root, settings.limits)

    def priority(self, job: Job) -> int:
        return job.priority if job.priority is not None else int(self._defaults.get("priority", 0))

    def image_count(self, job: Job) -> int:
        if job.seeds is not None:
            return len(job.seeds)
        return job.iterations if job.iterations is not None else int(self._defaults.get("iterations", 1))

    # -- the plan of a job -----------------------------------------------------------------------------------------

    def plan(
        self,
        job: Job,
        job_id: str,
        seed: Callable[[], int] = draw_seed,
        places: Sequence[Place] = (),
        keep: bool = False,
    ) -> Plan:
        """The plan of a job. Its pictures lie at one of `places`, among its own copies or in the root.

        `keep` copies the pictures into the folder of the results, which the plan names in any case.
        """
        seen = self._understood(job)
        listed, job = len(job.loras), job.model_copy(update={"loras": list(with_prompts_loras(job.loras, seen))})
        found = Findings(job, listed, [replace(each, line=line_of(job, each.key)) for each in seen.problems])
        found.find_pictures(self.pictures, [*places, *self.own_places(job, job_id)])
        entry = self._main_model(job, found)
        found.job = with_usual_vae(found, self._registry, entry, self._defaults)
        found.find_models(self._registry, entry.base)
        find_embeddings(found, self._registry, entry, self._asked(found.job))
        found.check(self._registry, entry, seen.positive.swapped is not None)
        if job.init is None and entry.why_not_from_text:
            able = " or ".join(self._able(from_text=True))
            hint = f"Add [init] with an image{f', or use {able}' if able else ''}."
            found.blame(f"{entry.name} {entry.why_not_from_text}.", "model", hint)
        plan = self._resolved(found, job_id, entry, seed)
        if found.problems:
            raise JobError(job.source.where, in_order(found.problems))
        if found.missing:
            raise ModelMissing(" ".join(found.missing))
        assert plan is not None
        if keep:
            self._keep(found, job_id)
        return plan

    def plan_anew(self, job: Job, job_id: str, before: str) -> Plan:
        """The plan of a job that gets results under another name than it was accepted with."""
        return self.plan(job, job_id, places=self.own_places(job, before), keep=True)

    def keep_pictures(self, job: Job, job_id: str, beside: Path) -> list[Path]:
        """Copy what a job that arrived names, as far as it is there; what lies beside it of that. Raises OSError."""
        found = Findings(job)
        found.find_pictures(self.pictures, [beside, *self.own_places(job, job_id)])
        self._keep(found, job_id)
        return [beside / asked for asked in found.pictures if os.path.lexists(beside / asked)]

    def keep_beside(self, names: Iterable[str], job_id: str, beside: Path) -> list[Path]:
        """Copy pictures that lie beside a file that is no job yet, for when it is corrected. Raises OSError."""
        found = Findings(Job(prompt=""))
        for name in names:
            with suppress(PictureError, OSError):
                found.pictures[name] = self.pictures.find(name, [beside])
        self._keep(found, job_id)
        return [beside / name for name in found.pictures]

    def _keep(self, found: Findings, job_id: str) -> None:
        if found.pictures:
            copies = self._inputs(found, job_id)
            paths = {each.asked: (each, found.pictures[each.asked].path) for each in copies}
            Inputs(self.results(job_id).folder).keep(paths)

    def _resolved(self, found: Findings, job_id: str, entry: Entry, seed: Callable[[], int]) -> Plan | None:
        """The plan with the names of all that was found; None where something in it is wrong, which is noted."""
        inputs = self._inputs(found, job_id)
        job = found.settled({each.asked: each.file for each in inputs})
        init = found.size_of(found.job.init.image) if found.job.init else None
        try:
            plan = resolve(
                job,
                job_id,
                reference_to(entry),
                model_defaults=entry.default_settings,
                settings_defaults=self._defaults,
                draw_seed=seed,
                file_name=self._settings.output.file_name,
                limits=self._settings.limits,
                init_size=init,
            )
        except JobError as error:
            if error.where != job.source.where:
                raise
            found.problems += error.problems
            return None
        references, warnings = tuple(found.references()), tuple(found.warnings)
        return replace(plan, references=references, inputs=tuple(inputs), warnings=warnings)

    def _inputs(self, found: Findings, job_id: str) -> list[Input]:
        """What the copies of the pictures that were found are called."""
        inputs = Inputs(self.results(job_id).folder)
        return [
            inputs.planned(number, asked, each.seen.hash)
            for number, (asked, each) in enumerate(found.pictures.items(), start=1)
        ]

    def own_places(self, job: Job, job_id: str) -> list[Place]:
        """Where the pictures of a job lie that was accepted or begun before; nowhere where it names none."""
        if next(pictures_of(job), None) is None:
            return []
        ids = [job_id, *([safe_id(job.resolved.job)] if job.resolved is not None else [])]
        places: list[Place] = []
        for folder in (self.results(each).folder for each in ids):
            places += [{asked: folder / each.file for asked, each in Inputs(folder).known().items()}, folder]
        return places

    # -- the main model --------------------------------------------------------------------------------------------

    def _main_model(self, job: Job, found: Findings) -> Entry:
        """The model of a job. What is wrong beside it is told with it, and before a model is waited for."""
        try:
            return self.model(job)
        except ModelMissing:
            if found.problems:
                raise JobError(job.source.where, in_order(found.problems)) from None
            raise
        except JobError as error:
            raise JobError(job.source.where, in_order([*found.problems, *error.problems])) from None

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
            able = self._able(from_text=False)
            hint = f"Use {' or '.join(able)}." if able else "Drop one into autoimport/main/ and name that."
            raise JobError(where, [Problem(str(error), "model", line, hint)]) from None

    def _able(self, from_text: bool) -> list[str]:
        """The first models that a job can render with."""
        sound = [entry for entry in self._registry.models() if entry.status == "ok"]
        fit = [one for one in sound if (one.is_renderable_from_text if from_text else one.is_renderable)]
        return [entry.name for entry in fit[:5]]

    # -- prompts ---------------------------------------------------------------------------------------------------

    def _understood(self, job: Job) -> Understood:
        asked = self._asked(job)
        style = job.style_prompt, job.negative_style_prompt
        return understand(job.prompt, asked["negative_prompt"], asked["prompt_syntax"], *style)

    def _asked(self, job: Job) -> dict[str, Any]:
        return {**COMMON_DEFAULTS, **self._defaults, **job.model_dump(exclude_none=True)}

    # -- jobs that were begun --------------------------------------------------------------------------------------

    def results(self, job_id: str) -> Results:
        return Results(self._root.outputs / job_id)

    def begun(self, job_id: str) -> Plan | None:
        """The plan that an earlier start of this job wrote beside its images; None when there is none to be read."""
        file = self.results(job_id).job_file
        with suppress(OSError, JobError):
            return from_resolved(file.read_bytes(), str(file))
        return None

    def resume(self, begun: Plan) -> Plan:
        """The plan of a job that a stop interrupted, with its models as they are now, whatever defaults are now."""
        model = reference_to(self._usable(begun.model.name, begun.job_id), begun.model.asked)
        now = replace(begun, model=model, references=tuple(as_it_is(self._registry, each) for each in begun.references))
        problems = list(changes(begun, now, self.results(begun.job_id).folder))
        if problems:
            raise JobError(begun.job_id, problems)
        return now

    def continues(self, begun: Plan, job: Job, places: Sequence[Place] = ()) -> Plan | None:
        """The begun plan with its models as they are now, if the job still asks for the same; else None."""
        first_seed = begun.images[0].seed
        now = self.plan(job, begun.job_id, seed=lambda: first_seed, places=places)
        if now.images != begun.images or not has_same_models(begun, now):
            return None
        if any(damage(each, self.results(begun.job_id).folder) for each in begun.inputs):
            return None
        return replace(begun, model=now.model, references=now.references, priority=now.priority)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Problems in the order of their lines, each once."""
    return sorted(dict.fromkeys(problems), key=lambda problem: problem.line or 0)
