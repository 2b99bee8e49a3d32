"""Results: the folder of one job, `outputs/<job id>/`. job.toml comes first, pictures appear complete or not at all.

Called by the daemon (begin, published, finish) and by the renderer (publish). What exists is never overwritten.

A disk takes milliseconds for each fsync, so only contents are synced at once; the names are when the job finishes. A
power cut before that may take back a picture's name, never leave half a picture: the picture is rendered again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from invokeai_daemon.files import publish, remove_leftovers, sync_folder, write_atomically
from invokeai_daemon.job.names import image_name
from invokeai_daemon.job.plan import Image, ModelRef, Plan
from invokeai_daemon.job.plan_job import to_toml
from invokeai_daemon.output.metadata import versions
from invokeai_daemon.root import INPUTS

JOB_FILE = "job.toml"
RESULT_FILE = "result.json"
#: The folder with a folder of step pictures for each image that asks for them.
INTERMEDIATES = "intermediates"


@dataclass(frozen=True)
class Outcome:
    """How one image ended."""

    #: The image's number in the plan.
    number: int
    state: Literal["done", "failed", "cancelled"]
    #: Wall seconds from its first step to its publication; None when not known (published before a restart).
    seconds: float | None = None
    warnings: tuple[str, ...] = ()
    #: Why it failed.
    error: str = ""
    #: What was done so that it fits into the device's memory, in words.
    memory: tuple[str, ...] = ()
    #: How the prompts were split into tokens; None when the job does not ask.
    tokenization: dict[str, Any] | None = None


class Results:
    """The results of one job in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def job_file(self) -> Path:
        return self.folder / JOB_FILE

    @property
    def result_file(self) -> Path:
        return self.folder / RESULT_FILE

    def begin(self, plan: Plan) -> None:
        """Make the folder and put the resolved job into it, unless it is there: what was planned stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers([self.folder, self.folder / INPUTS, *(self.folder / INTERMEDIATES).glob("*")])
        if not self.job_file.exists():
            publish(self.job_file, to_toml(plan).encode(), sync=False)

    def name(self, plan: Plan, image: Image) -> str:
        """The file name of an image: a pure function of the plan and the image."""
        return image_name(plan, image)

    def published(self, plan: Plan) -> set[int]:
        """The numbers of the images that are on disk."""
        try:
            names = {path.name for path in self.folder.iterdir()}
        except FileNotFoundError:
            return set()
        return {image.number for image in plan.images if self.name(plan, image) in names}

    def publish(self, plan: Plan, image: Image, png: bytes) -> str:
        """Make the picture appear, complete; one that is there already stays. Returns the file name."""
        name = self.name(plan, image)
        # Whoever takes pictures away while their job runs may take the folder with them.
        self.folder.mkdir(parents=True, exist_ok=True)
        publish(self.folder / name, png, sync=False)
        return name

    def publish_step(self, plan: Plan, image: Image, step: int, png: bytes) -> Path:
        """Make the picture of a step appear, complete; one that is there already stays."""
        return self._publish_beside(plan, image, f"{step:04}", png)

    def publish_control(self, plan: Plan, image: Image, stem: str, png: bytes) -> Path:
        """Make a picture that a control model follows appear; one that is there already stays."""
        return self._publish_beside(plan, image, stem, png)

    def _publish_beside(self, plan: Plan, image: Image, stem: str, png: bytes) -> Path:
        path = self.folder / INTERMEDIATES / Path(self.name(plan, image)).stem / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, png, sync=False)
        return path

    def finish(self, plan: Plan, outcomes: Iterable[Outcome], extra_versions: Mapping[str, str] | None = None) -> None:
        """Write result.json and make all of the folder durable.

        Images without an outcome are done when they are on disk, else cancelled.
        """
        known = {outcome.number: outcome for outcome in outcomes}
        on_disk = self.published(plan)
        result = {
            "job": plan.job_id,
            "images": [self._entry(plan, image, known.get(image.number), on_disk) for image in plan.images],
            "model": _shown(plan.model),
            **({"references": [_shown(each) for each in plan.references]} if plan.references else {}),
            **({"inputs": [asdict(each) for each in plan.inputs]} if plan.inputs else {}),
            "versions": {**versions(), **(extra_versions or {})},
            **plan.meta,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.result_file, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        sync_folder(self.folder.parent)

    def _entry(self, plan: Plan, image: Image, outcome: Outcome | None, on_disk: set[int]) -> dict[str, Any]:
        is_there = image.number in on_disk
        if outcome is None:
            outcome = Outcome(image.number, "done" if is_there else "cancelled")
        return {
            "number": image.number,
            "state": "done" if is_there else outcome.state,
            "file": self.name(plan, image) if is_there else None,
            "seed": image.seed,
            "seconds": outcome.seconds,
            "warnings": list(outcome.warnings),
            "error": None if is_there else outcome.error or None,
            **({"memory": list(outcome.memory)} if outcome.memory else {}),
            **({"tokenization": outcome.tokenization} if outcome.tokenization else {}),
        }


def _shown(model: ModelRef) -> dict[str, Any]:
    """A model without its path, which is this machine's affair."""
    return {key: value for key, value in asdict(model).items() if key != "path"}
