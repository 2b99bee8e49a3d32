"""Follow a job until it is over, showing what happens to it. For `submit --wait` and `demo`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import click

from invokeai_daemon.cli import snapshot
from invokeai_daemon.root import Root

POLL_SECONDS = 0.2
OVER = ("done", "failed", "unknown")
#: A job is between two folders for an instant; it is gone only when it stays away for so many looks.
LOOKS = 10


def follow(root: Root, job_id: str) -> int:
    """Wait for one job, showing what it does; then print its pictures, or why there are none. 0 when it is done.

    A job that waits for what nobody is bringing may wait for ever, so it is not waited for.
    """
    show(_until_stuck(root, job_id))
    return report(snapshot.job(root, job_id))


def _until_stuck(root: Root, job_id: str) -> Iterator[str]:
    looks = 0
    for stage in stages(root, job_id):
        yield stage
        looks = looks + 1 if _is_stuck(root, job_id) else 0
        if looks > LOOKS:
            return


def _is_stuck(root: Root, job_id: str) -> bool:
    """Whether a job waits, or its daemon is gone, and no model is on its way."""
    now = snapshot.take(root, time.time())
    is_waiting = snapshot.job(root, job_id)["state"] == "waiting"
    return now["state"] == "stopped" or (is_waiting and not now["models"].get("importing") and not now["downloads"])


def report(job: dict[str, Any]) -> int:
    """Print the pictures of a job that is over, and what went wrong with it. 0 when nothing did."""
    for picture in job["pictures"]:
        click.echo(picture)
    if job["state"] == "done":
        return 0
    click.echo(_reason(job), err=True)
    return 1


def _reason(job: dict[str, Any]) -> str:
    if job["state"] == "failed":
        return str(job["why"])
    if job["state"] == "unknown":
        return f"{job['job']} was cancelled."
    # It is still there, and somebody gave up following it.
    return f"{job['job']} is {job['state']}, and starts by itself when it can. {job['why']}".rstrip()


def stages(root: Root, job_id: str) -> Iterator[str]:
    """What a job does, again and again until it is over: "queued", "image 1 of 4, step 3 of 20"."""
    missed = 0
    while True:
        job = snapshot.job(root, job_id)
        missed = missed + 1 if job["state"] == "unknown" else 0
        if job["state"] in OVER and missed in (0, LOOKS):
            return
        if not missed:
            yield f"{job_id}: {_stage(job)}"
        time.sleep(POLL_SECONDS)


def _stage(job: dict[str, Any]) -> str:
    if job["state"] == "waiting":
        return f"waiting: {job['why']}"
    progress = job.get("progress")
    if not progress:
        return "dropped" if job["state"] == "new" else str(job["state"])
    return f"image {progress['image']} of {progress['of']}, step {progress['step']} of {progress['steps']}"


def show(stages: Iterable[str]) -> None:
    """Show stages as they come: in place on a terminal, else a line whenever the words (not the numbers) change."""
    if sys.stdout.isatty():
        _show_in_place(stages)
        return
    last = ""
    for stage in stages:
        if _words(stage) != last:
            click.echo(stage)
            last = _words(stage)


def _show_in_place(stages: Iterable[str]) -> None:
    from rich.console import Console
    from rich.markup import escape

    with Console().status("") as status:
        for stage in stages:
            status.update(escape(stage))


def _words(stage: str) -> str:
    return "".join(character for character in stage if not character.isdigit())
