"""`submit`: writes a job into the inbox. Takes the option names of InvokeAI's command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import click

from invokeai_daemon.cli.options import with_root
from invokeai_daemon.cli.roots import shown
from invokeai_daemon.files import write_atomically
from invokeai_daemon.root import Root
from invokeai_daemon.spool.names import numbered, safe_id
from invokeai_daemon.spool.spool import DROP_SUFFIXES, Spool

#: A job is named after its prompt, up to here.
NAME_LENGTH = 40


@click.command()
@click.argument("words", nargs=-1, metavar="[PROMPT | FILE]...")
@click.option("-m", "--model", help="A model's name, a unique start of it, or its hash.")
@click.option("--negative", "--negative-prompt", "--negative_prompt", "negative_prompt", metavar="TEXT")
@click.option("-W", "--width", type=int, help="Pixels.")
@click.option("-H", "--height", type=int, help="Pixels.")
@click.option("-s", "--steps", type=int)
@click.option("-S", "--seed", type=int)
@click.option("-C", "--cfg-scale", "--cfg_scale", "cfg_scale", type=float)
@click.option("-A", "--scheduler", "--sampler", "scheduler", metavar="NAME")
@click.option("-n", "--iterations", type=int, help="How many pictures: seeds SEED, SEED+1, …")
@click.option("--priority", type=int, help="Higher runs first.")
@click.option("--name", metavar="NAME", help="The job's name (default: from the prompt).")
@click.option("--wait", is_flag=True, help="Wait for the pictures and print their paths.")
@with_root
def submit(root: Root, words: tuple[str, ...], name: str | None, wait: bool, **keys: Any) -> int:
    """Write a job into the inbox: from a PROMPT and options, or as copies of FILEs (.toml, .png, .txt).

    The options mean what they mean at InvokeAI's prompt:

        invokeai-daemon submit "waterfall and rainbow" -W640 -H480 -s30 -S42 -n4
    """
    files = [Path(word) for word in words if is_file(word)]
    prompt = " ".join(word for word in words if not is_file(word))
    asked = {"prompt": prompt, **{key: value for key, value in keys.items() if value is not None}}
    _refuse_nonsense(files, asked)
    drops = (
        copies(files, name)
        if files
        else [(name or name_of(prompt), ".toml", job_text(asked, f"{name or name_of(prompt)}.toml"))]
    )
    submitted = [drop(root, stem, ending, raw) for stem, ending, raw in drops]
    for path in submitted:
        click.echo(f"Submitted {shown(path, root)}. Follow it: invokeai-daemon status {path.stem}")
    return _wait(root, submitted) if wait else _remind(root)


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


def copies(files: Iterable[Path], name: str | None) -> list[tuple[str, str, bytes]]:
    """Stem, suffix and content of files to submit; what would fail is refused here, with all its problems."""
    from invokeai_daemon.cli.drops import read_drop

    drops = [read_drop(path) for path in files]
    return [(name or drop.path.stem, drop.path.suffix.lower(), drop.raw) for drop in drops]


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


def _reserve(path: Path) -> bool:
    """Take a name by an empty file; the rename that follows is what the daemon notices at once."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _taken(root: Root, job_id: str) -> bool:
    drops = (root.inbox / f"{job_id}{suffix}" for suffix in DROP_SUFFIXES)
    return Spool(root).is_known(job_id) or (root.outputs / job_id).exists() or any(path.exists() for path in drops)


def _wait(root: Root, submitted: Sequence[Path]) -> int:
    from invokeai_daemon.cli.follow import follow

    return max(follow(root, path.stem) for path in submitted)


def _remind(root: Root) -> int:
    import time

    from invokeai_daemon.cli import snapshot

    if snapshot.take(root, time.time())["state"] == "stopped":
        click.echo(f"The daemon is not running. Start it with: invokeai-daemon run --root {root.path}", err=True)
    return 0
