"""Mentions: the models besides its own and the pictures that a job names, each with its key, and how they are settled.

Called by the planner, which looks each of them up and then has the job say what was found. Looks nothing up itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from invokeai_daemon.job.schema import Job

#: The lists of adapters, and the type of the models that they name.
ADAPTERS: Mapping[str, str] = {
    "loras": "lora",
    "controlnets": "controlnet",
    "t2i_adapters": "t2i_adapter",
    "ip_adapters": "ip_adapter",
}
#: The lists of adapters that follow a picture.
CONTROLS = ("controlnets", "t2i_adapters")
#: The keys of a job, of its tables and of its lists, that name a picture, in the order in which pictures are numbered.
PICTURES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("init", ("image", "depth")),
    ("init_color", ()),
    ("mask", ("image",)),
    ("controlnets", ("image",)),
    ("t2i_adapters", ("image",)),
    ("ip_adapters", ("image",)),
)


@dataclass(frozen=True)
class Mention:
    """A name in a job."""

    #: In dotted form: "loras[0].name".
    key: str
    asked: str
    #: The type of the model that is named; empty for a picture.
    type: str = ""


def models_of(job: Job) -> Iterator[Mention]:
    """The models that a job names besides the one that renders it."""
    for key, type in ADAPTERS.items():
        for number, each in enumerate(getattr(job, key)):
            yield Mention(f"{key}[{number}].name", each.name, type)
            if getattr(each, "image_encoder", None):
                yield Mention(f"{key}[{number}].image_encoder", each.image_encoder, "clip_vision")
    if job.vae is not None:
        yield Mention("vae", job.vae, "vae")
    if job.refiner is not None:
        yield Mention("refiner.model", job.refiner.model, "main")


def pictures_of(job: Job) -> Iterator[Mention]:
    """The pictures that a job names; one that is named twice comes twice."""
    for table, keys in PICTURES:
        said = getattr(job, table)
        if isinstance(said, str):
            yield Mention(table, said)
        for place, each in _tables(table, said):
            for key in keys:
                if getattr(each, key) is not None:
                    yield Mention(f"{place}.{key}", getattr(each, key))


def settled(job: Job, models: Callable[[Mention], str], pictures: Callable[[Mention], str]) -> Job:
    """The job with what was found in place of what was asked; its keys and lines stay."""
    found = {each.key: models(each) for each in models_of(job)}
    found |= {each.key: pictures(each) for each in pictures_of(job)}
    changed: dict[str, Any] = {}
    for table in dict.fromkeys((*ADAPTERS, *(table for table, _ in PICTURES), "vae", "refiner")):
        said = getattr(job, table)
        if isinstance(said, list):
            changed[table] = [_changed(each, f"{table}[{number}]", found) for number, each in enumerate(said)]
        elif isinstance(said, BaseModel):
            changed[table] = _changed(said, table, found)
        elif table in found:
            changed[table] = found[table]
    return job.model_copy(update=changed)


def _tables(table: str, said: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(said, list):
        yield from ((f"{table}[{number}]", each) for number, each in enumerate(said))
    elif isinstance(said, BaseModel):
        yield table, said


def _changed(table: BaseModel, place: str, found: Mapping[str, str]) -> BaseModel:
    values = {key: found[f"{place}.{key}"] for key in type(table).model_fields if f"{place}.{key}" in found}
    return table.model_copy(update=values) if values else table
