"""Drops: what a file in the inbox asks for, as jobs, or all that is wrong with it. Called by the intake of jobs.

A drop is read once, through a descriptor, and only if it is a regular file; its signature from before and after the
reading tells whether somebody wrote to it meanwhile.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from invokeai_daemon.daemon.outcomes import explained
from invokeai_daemon.daemon.settle import Signature
from invokeai_daemon.errors import DaemonError, JobError, NoRecord, Problem
from invokeai_daemon.job.parse import parse_job
from invokeai_daemon.job.schema import Job
from invokeai_daemon.output.looking import SUFFIXES

#: What the inbox takes, by the end of the name in lower case.
KINDS = (".toml", ".png", ".txt")
#: Bytes of a prompt list; a job file has its own limit in the settings.
MAX_LIST_BYTES = 4 * 1024 * 1024
#: Bytes of a file that is no job which are searched for names of pictures.
MOST_SEARCHED = 64 * 1024
_IN_QUOTES = re.compile(r"""["']([^"'\n]{1,200})["']""")


@dataclass(frozen=True)
class Reading:
    """What was read from a drop: either jobs or an error."""

    signature: Signature
    #: Each job with the TOML text that asks for it.
    jobs: tuple[tuple[bytes, Job], ...] = ()
    #: What is wrong, for the user.
    error: str = ""
    #: It is a sound picture that says nothing of its making.
    is_mere: bool = False


def read_drop(path: Path, shown: str, job_bytes: int) -> Reading:
    """Read a drop. `shown` names it in messages; `job_bytes` is the limit of a job file. Raises OSError."""
    kind = path.suffix.lower()
    limit = MAX_LIST_BYTES if kind == ".txt" else job_bytes
    signature, raw = _read(path, limit if kind != ".png" else 0)
    try:
        return Reading(
            signature, tuple((text, parse_job(text, shown)) for text in _texts(path, kind, raw, shown, limit))
        )
    except NoRecord as error:
        return Reading(signature, error=explained(shown, error), is_mere=True)
    except JobError as error:
        return Reading(signature, error=explained(shown, error))
    except DaemonError as error:
        return Reading(signature, error=f"{shown} was not run.\n\n  {error}\n\nFix it and move it back to inbox/.")


def read_job(path: Path, shown: str, job_bytes: int) -> tuple[Signature, Job]:
    """One job file. Raises JobError, OSError."""
    signature, raw = _read(path, job_bytes)
    _check_size(raw, shown, job_bytes)
    return signature, parse_job(raw, shown)


def _texts(path: Path, kind: str, raw: bytes, shown: str, limit: int) -> list[bytes]:
    if kind == ".png":
        from invokeai_daemon.job.records import job_of_record
        from invokeai_daemon.output.metadata import read_record

        return [job_of_record(read_record(path)).encode()]
    _check_size(raw, shown, limit)
    if kind == ".txt":
        from invokeai_daemon.job.commands import jobs_of_text

        return jobs_of_text(raw, shown)
    return [raw]


def _check_size(raw: bytes, shown: str, limit: int) -> None:
    if len(raw) > limit:
        hint = "Make several jobs of it, or raise job_bytes under [limits] in configs/daemon.toml."
        raise JobError(shown, [Problem(f"The file is larger than {limit} bytes.", hint=hint)])


def _read(path: Path, limit: int) -> tuple[Signature, bytes]:
    """The signature of a regular file and its first `limit` bytes and one more. Raises OSError, also for changes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(0, "is no regular file", str(path))
        raw = _first_bytes(descriptor, limit + 1) if limit else b""
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise BlockingIOError(0, "was written to while it was read", str(path))
    return Signature(after.st_dev, after.st_ino, after.st_size, after.st_mtime_ns), raw


def _first_bytes(descriptor: int, count: int) -> bytes:
    pieces = []
    while count > 0 and (piece := os.read(descriptor, count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def pictures_quoted(path: Path) -> list[str]:
    """What stands in quotes in the beginning of a file that is no job, and is the name of a picture beside it."""
    _, raw = _read(path, MOST_SEARCHED)
    quoted = dict.fromkeys(_IN_QUOTES.findall(raw.decode("utf-8", "replace")))
    return [name for name in quoted if name.lower().endswith(SUFFIXES) and os.path.lexists(path.parent / name)]
