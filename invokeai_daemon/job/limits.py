"""Limits: how much one job may ask for. Called by `plan_job`.

Every pass of a picture counts: what is painted at a size of its own, and the first pass of a large picture, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from invokeai_daemon.errors import JobError, Problem
from invokeai_daemon.job.fitting import Size, first_size
from invokeai_daemon.job.schema import Hires, Job
from invokeai_daemon.settings import LimitSettings


def check_limits(job: Job, values: Mapping[str, Any], hires: Hires | None, side: int, limits: LimitSettings) -> None:
    """`side` is the trained side of the model, for a first pass whose size nobody says. Raises JobError."""
    problems = []
    for key, what, (width, height) in _passes(job, values, hires, side):
        if width * height > limits.max_pixels:
            message = f"{what}{width} × {height} is {width * height} pixels; the limit is {limits.max_pixels}."
            problems.append(_problem(job, key, message, "max_pixels"))
    count = len(job.seeds) if job.seeds is not None else values["iterations"]
    if count > limits.max_images:
        key = "seeds" if job.seeds is not None else "iterations"
        problems.append(_problem(job, key, f"{count} images; the limit is {limits.max_images}.", "max_images"))
    if problems:
        raise JobError(job.source.where, problems)


def _passes(job: Job, values: Mapping[str, Any], hires: Hires | None, side: int) -> Iterator[tuple[str, str, Size]]:
    """The key that says a size, what is made at it, and the size."""
    size = values["width"], values["height"]
    yield "width", "", size
    if hires is not None:
        yield "hires.size", "the first pass of ", first_size(size, hires.size or side)
    if job.mask is not None and job.mask.width and job.mask.height:
        yield "mask.width", "", (job.mask.width, job.mask.height)


def _problem(job: Job, key: str, message: str, limit: str) -> Problem:
    hint = f"Ask for less, or raise {limit} under [limits] in configs/daemon.toml."
    return Problem(message, key, job.source.lines.get(key), hint)
