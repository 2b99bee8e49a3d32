"""Findings: what the names in a job mean, models and pictures, and all that is wrong with them. Made by the planner.

Everything is looked up before anything is said, so that a person mends a job once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from invokeai_daemon.daemon.pictures import Found, Pictures, Place
from invokeai_daemon.errors import ModelMissing, Problem
from invokeai_daemon.job import processors
from invokeai_daemon.job.checks import Circumstances, faults
from invokeai_daemon.job.mentions import CONTROLS, Mention, models_of, pictures_of, settled
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.job.schema import Job
from invokeai_daemon.models.entries.entry import Entry
from invokeai_daemon.models.references import UnfitReference, encoder_for, only, reference, reference_to
from invokeai_daemon.models.registry import Registry
from invokeai_daemon.output.looking import PictureError
from invokeai_daemon.strict_toml import Document

#: The part of a depth model that estimates depth.
_ESTIMATOR = "depth_estimator/config.json"


@dataclass
class Findings:
    """What was found for one job."""

    job: Job
    #: So many of its LoRAs are the job's own; its prompt names the others.
    listed: int = 0
    #: What the user must mend.
    problems: list[Problem] = field(default_factory=list)
    #: Key of the job -> the model that is meant there.
    models: dict[str, Entry] = field(default_factory=dict)
    #: Path that the job gives -> the picture.
    pictures: dict[str, Found] = field(default_factory=dict)
    #: Models that no key names by itself.
    others: list[ModelRef] = field(default_factory=list)
    #: What may still come: a sentence each.
    missing: list[str] = field(default_factory=list)
    #: What the user may not expect: a sentence each.
    warnings: list[str] = field(default_factory=list)

    def blame(self, message: str, key: str, hint: str = "") -> None:
        self.problems.append(Problem(message, key, line_of(self.job, key), hint))

    # -- looking up ------------------------------------------------------------------------------------------------

    def find_pictures(self, pictures: Pictures, places: Sequence[Place]) -> None:
        """Look all pictures up, in folders and among copies by the paths that the job gives."""
        for each in pictures_of(self.job):
            if each.asked in self.pictures:
                continue
            try:
                self.pictures[each.asked] = pictures.find(each.asked, places)
            except PictureError as error:
                self.blame(error.message, each.key, error.hint)
            except OSError as error:
                self.blame(f"{each.asked} cannot be read: {error.strerror or error}.", each.key)

    def find_models(self, registry: Registry, base: str) -> None:
        """Look up the models that the job names, for a main model of a base, and those that these need."""
        for each in models_of(self.job):
            self._find_model(registry, each, "sdxl-refiner" if each.key == "refiner.model" else base)
        for number, asked in enumerate(self.job.ip_adapters):
            key = f"ip_adapters[{number}]"
            adapter = self.models.get(f"{key}.name")
            if adapter is not None and asked.image_encoder is None:
                self._find(f"{key}.image_encoder", partial(encoder_for, registry, adapter))
        if self.job.mask is not None and self.job.mask.text is not None:
            self._find_helper(registry, "mask.text", "clipseg", "clipseg")

    def _find_model(self, registry: Registry, mention: Mention, base: str) -> None:
        self._find(mention.key, lambda: reference(registry, mention.type, mention.asked, base))

    def _find(self, key: str, look: Callable[[], Entry]) -> None:
        try:
            self.models[key] = look()
        except UnfitReference as error:
            self.blame(error.message, key, error.hint)
        except ModelMissing as error:
            if str(error) not in self.missing:
                self.missing.append(str(error))

    def _find_helper(self, registry: Registry, key: str, type: str, asked: str) -> None:
        """The model of a type that a job needs without naming it; plans know it by what asks for it."""
        try:
            found = reference_to(only(registry, type), asked)
        except UnfitReference as error:
            self.blame(error.message, key, error.hint)
            return
        if found not in self.others:
            self.others.append(found)

    # -- judging ---------------------------------------------------------------------------------------------------

    def check(self, registry: Registry, main: Entry, swaps: bool) -> None:
        """Find what cannot go together, or not with the main model. `swaps`: so the prompt does with its words."""
        init = self.pictures.get(self.job.init.image) if self.job.init is not None else None
        circumstances = Circumstances(
            main.name,
            main.base,
            main.variant or "normal",
            (Path(main.path) / _ESTIMATOR).is_file(),
            {asked: (found.seen.width, found.seen.height) for asked, found in self.pictures.items()},
            init is not None and init.seen.has_alpha,
            swaps,
        )
        for fault in faults(self.job, circumstances):
            self.blame(fault.message, fault.key, fault.hint)
        for key, control in self._controls():
            self.problems += processors.problems(control, key, self.job.source.lines)
            known = processors.BY_NAME.get(control.processor or "")
            if known is not None and known.model:
                self._find_helper(registry, f"{key}.processor", known.model, known.name)

    def size_of(self, asked: str) -> tuple[int, int] | None:
        """Pixels of a picture, upright; None when it was not found."""
        found = self.pictures.get(asked)
        return (found.seen.width, found.seen.height) if found else None

    # -- settling --------------------------------------------------------------------------------------------------

    def settled(self, files: Mapping[str, str]) -> Job:
        """The job with what was found: names, weights, processors, and the files of its pictures by their paths."""
        job = settled(
            self.job,
            lambda each: self.models[each.key].name if each.key in self.models else each.asked,
            lambda each: files.get(each.asked, each.asked),
        )
        changed: dict[str, list[Any]] = {"loras": list(self._loras(job)), "ip_adapters": list(self._prompters(job))}
        for table in CONTROLS:
            changed[table] = [self._with_processor(table, *each) for each in enumerate(getattr(job, table))]
        return job.model_copy(update=changed)

    def references(self) -> list[ModelRef]:
        """The models that were found, each once."""
        asked = {each.key: each.asked for each in models_of(self.job)}
        given: dict[tuple[str, str], ModelRef] = {}
        for key, entry in self.models.items():
            given.setdefault((entry.type, entry.name), reference_to(entry, asked.get(key, "")))
        return [*given.values(), *self.others]

    def _loras(self, job: Job) -> Iterator[Any]:
        """The LoRAs, each with a weight: its own where the job gives none. Of the prompt's, those not listed."""
        listed = {lora.name for lora in job.loras[: self.listed]}
        for number, lora in enumerate(job.loras):
            if number >= self.listed and lora.name in listed:
                continue
            entry = self.models.get(f"loras[{number}].name")
            usual = entry.default_settings.get("weight", 1.0) if entry is not None else 1.0
            yield lora if lora.weight is not None else lora.model_copy(update={"weight": float(usual)})

    def _prompters(self, job: Job) -> Iterator[Any]:
        for number, each in enumerate(job.ip_adapters):
            encoder = self.models.get(f"ip_adapters[{number}].image_encoder")
            yield each.model_copy(update={"image_encoder": encoder.name}) if encoder is not None else each

    def _controls(self) -> Iterator[tuple[str, Any]]:
        """The ControlNets and T2I-Adapters, each with its key and with the processor that counts."""
        for table in CONTROLS:
            for number, each in enumerate(getattr(self.job, table)):
                yield f"{table}[{number}]", self._with_processor(table, number, each)

    def _with_processor(self, table: str, number: int, asked: Any) -> Any:
        entry = self.models.get(f"{table}[{number}].name")
        if entry is None:
            return processors.settled(asked, asked.name)
        return processors.settled(asked, entry.name, entry.default_settings.get("preprocessor"))


def line_of(job: Job, key: str) -> int | None:
    """The line of a key in the file of a job, or of the table around it. LoRAs of a prompt have none."""
    return Document(job.source.where, {}, job.source.lines).line(key)
