"""`submit`: writes a job into the inbox. Takes the option names of InvokeAI's command line."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import click

from invokeai_daemon.cli.asking import Grouped, Option, asked, job_options
from invokeai_daemon.cli.options import with_root
from invokeai_daemon.cli.roots import shown
from invokeai_daemon.files import sync_folder, write_atomically
from invokeai_daemon.root import Root
from invokeai_daemon.spool.names import numbered, safe_id
from invokeai_daemon.spool.spool import DROP_SUFFIXES, Spool

#: A job is named after its prompt, up to here.
NAME_LENGTH = 40


@click.command(cls=Grouped)
@click.argument("words", nargs=-1, metavar="[PROMPT | FILE]...")
@job_options
@click.option("--name", cls=Option, group="The job", metavar="NAME", help="The job's name (default: from the prompt).")
@click.option("--wait", is_flag=True, help="Wait for the pictures and print their paths.")
@with_root
def submit(root: Root, words: tuple[str, ...], name: str | None, wait: bool, **options: Any) -> int:
    """Write a job into the inbox: from a PROMPT and options, or as copies of FILEs (.toml, .png, .txt).

    The options mean what they mean at InvokeAI's prompt:

        invokeai-daemon submit "waterfall and rainbow" -W640 -H480 -s30 -S42 -n4
        invokeai-daemon submit "the same in oil" -I photo.png -f 0.6 --lora ink:0.8
    """
    files = [Path(word) for word in words if is_file(word)]
    what = asked(" ".join(word for word in words if not is_file(word)), options)
    _refuse_nonsense(files, what.job)
    if files:
        found = copies(files, name)
        submitted = [drop(root, stem, ending, raw) for stem, ending, raw, _ in found]
        jobs = [_ids(path, count) for path, (*_, count) in zip(submitted, found, strict=True)]
    else:
        stem = name or name_of(what.job["prompt"])
        raw = job_text(what.job, f"{stem}.toml")
        submitted = [drop_folder(root, stem, raw, what.pictures) if what.pictures else drop(root, stem, ".toml", raw)]
        jobs = [[path.stem] for path in submitted]
    for path in submitted:
        click.echo(f"Submitted {shown(path, root)}. Follow it: invokeai-daemon status {path.stem}")
    is_served = _remind(root)
    return _wait(root, jobs) if wait and is_served else int(wait)


def is_file(word: str) -> bool:
    """Whether a word is meant as a file: it ends like a drop, and is one word."""
    return word.lower().endswith(DROP_SUFFIXES) and (Path(word).exists() or not re.search(r"\s", word))


def _refuse_nonsense(files: Sequence[Path], asked: Mapping[str, Any]) -> None:
    if not files and not asked["prompt"]:
        raise click.UsageError("Say what to draw, or name a file: invokeai-daemon submit 'a lighthouse at dusk'")
    if files and len(asked) > 1:
        option = next(key for key in asked if key != "prompt")
        raise click.UsageError(f"A file says everything itself: {option} goes with a prompt.")
    if files and asked["prompt"]:
        raise click.UsageError(f"Either files or a prompt: {asked['prompt']!r} is no file.")


def job_text(asked: Mapping[str, Any], where: str) -> bytes:
    """A job's TOML. Raises JobError when the daemon would not take it."""
    from invokeai_daemon.job.parse import parse_job
    from invokeai_daemon.strict_toml import dump_toml

    raw = dump_toml(asked).encode()
    parse_job(raw, where)
    return raw


def copies(files: Iterable[Path], name: str | None) -> list[tuple[str, str, bytes, int]]:
    """Stem, suffix, content and number of jobs of files; what would fail is refused here, with all its problems."""
    from invokeai_daemon.cli.drops import read_drop

    drops = [read_drop(path) for path in files]
    return [(name or drop.path.stem, drop.path.suffix.lower(), drop.raw, len(drop.jobs)) for drop in drops]


def name_of(prompt: str) -> str:
    """The words of a prompt as a file name: a-red-circle-on-blue."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
    return words[:NAME_LENGTH].rstrip("-") or "job"


def drop(root: Root, stem: str, suffix: str, raw: bytes) -> Path:
    """Make a file appear in the inbox, complete, under a name that no other job has or had: its id will be its stem."""
    wanted = safe_id(stem)
    for job_id in chain([wanted], (numbered(wanted, number) for number in count(2))):
        path = root.inbox / f"{job_id}{suffix}"
        if not _taken(root, job_id) and _reserve(path):
            write_atomically(path, raw)
            return path
    raise AssertionError("numbers do not end")


def drop_folder(root: Root, stem: str, raw: bytes, pictures: Mapping[str, Path]) -> Path:
    """Make a job and the pictures that it names appear in the inbox at once, in a folder of the job's name."""
    wanted = safe_id(stem)
    hidden = Path(tempfile.mkdtemp(prefix=".submit-", suffix=".part", dir=root.inbox))
    try:
        for name, path in pictures.items():
            shutil.copyfile(path, hidden / name)
        for job_id in chain([wanted], (numbered(wanted, number) for number in count(2))):
            folder = root.inbox / job_id
            if not _taken(root, job_id):
                write_atomically(hidden / f"{job_id}.toml", raw)
                hidden.chmod(0o777 & ~_umask())
                hidden.rename(folder)
                sync_folder(root.inbox)
                return folder / f"{job_id}.toml"
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    raise AssertionError("numbers do not end")


def _umask() -> int:
    """What new files may not be, so that a daemon of another account can read what a temporary folder held."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _reserve(path: Path) -> bool:
    """Take a name by an empty file; the rename that follows is what the daemon notices at once."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _taken(root: Root, job_id: str) -> bool:
    drops = (root.inbox / f"{job_id}{suffix}" for suffix in ("", *DROP_SUFFIXES))
    return Spool(root).is_known(job_id) or (root.outputs / job_id).exists() or any(path.exists() for path in drops)


def _ids(path: Path, count: int) -> list[str]:
    """The jobs that a drop becomes: the daemon numbers those of a list."""
    return [path.stem] if count == 1 else [f"{path.stem}-{number:04}" for number in range(1, count + 1)]


def _wait(root: Root, drops: Sequence[Sequence[str]]) -> int:
    """Wait for the jobs of all drops."""
    from invokeai_daemon.cli.follow import follow, show, stages

    codes = []
    for jobs in drops:
        if len(jobs) > 1:
            # Until the list is taken apart, none of its jobs is there.
            show(stages(root, jobs[0].rpartition("-")[0]))
        codes += [follow(root, job) for job in jobs]
    return max(codes)


def _remind(root: Root) -> bool:
    """Whether a daemon is there to take the job; says how to start one when none is."""
    import time

    from invokeai_daemon.cli import snapshot

    if snapshot.take(root, time.time())["state"] != "stopped":
        return True
    click.echo(f"The daemon is not running. Start it with: invokeai-daemon run --root {root.path}", err=True)
    return False
