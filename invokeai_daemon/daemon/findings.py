"""Findings: what the names in a job mean, models and pictures, and all that is wrong with them. Made by the planner.

Everything is looked up before anything is said, so that a person mends a job once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from invokeai_daemon.daemon.pictures import Found, Pictures, Place
from invokeai_daemon.errors import ModelMissing, Problem
from invokeai_daemon.job.mentions import Mention, models_of, pictures_of
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.job.schema import Job
from invokeai_daemon.models.entries.entry import Entry
from invokeai_daemon.models.references import UnfitReference, reference
from invokeai_daemon.models.registry import Registry
from invokeai_daemon.output.looking import PictureError
from invokeai_daemon.strict_toml import Document


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

    def find_pictures(self, pictures: Pictures, folders: Sequence[Place]) -> None:
        """Look all pictures up, in folders and among copies by the paths that the job gives."""
        for each in pictures_of(self.job):
            if each.asked in self.pictures:
                continue
            try:
                self.pictures[each.asked] = pictures.find(each.asked, folders)
            except PictureError as error:
                self.blame(error.message, each.key, error.hint)
            except OSError as error:
                self.blame(f"{each.asked} cannot be read: {error.strerror or error}.", each.key)

    def find_models(self, registry: Registry, base: str) -> None:
        """Look all models up that keys name, for a main model of a base."""
        for each in models_of(self.job):
            self.find_model(registry, each, "sdxl-refiner" if each.key == "refiner.model" else base)

    def find_model(self, registry: Registry, mention: Mention, base: str) -> None:
        try:
            self.models[mention.key] = reference(registry, mention.type, mention.asked, base)
        except UnfitReference as error:
            self.blame(error.message, mention.key, error.hint)
        except ModelMissing as error:
            if str(error) not in self.missing:
                self.missing.append(str(error))

    def size_of(self, asked: str) -> tuple[int, int] | None:
        """Pixels of a picture, upright; None when it was not found."""
        found = self.pictures.get(asked)
        return (found.seen.width, found.seen.height) if found else None


def line_of(job: Job, key: str) -> int | None:
    """The line of a key in the file of a job, or of the table around it. LoRAs of a prompt have none."""
    return Document(job.source.where, {}, job.source.lines).line(key)
