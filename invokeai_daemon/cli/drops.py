"""What a file would be as a drop: the jobs in it, or all that is wrong with it. For `check` and `submit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from invokeai_daemon.errors import DaemonError
from invokeai_daemon.job.commands import jobs_of_text
from invokeai_daemon.job.parse import parse_job
from invokeai_daemon.job.records import job_of_record
from invokeai_daemon.job.schema import Job
from invokeai_daemon.output.metadata import read_record


class DropError(DaemonError):
    """The file cannot be read as a drop."""


@dataclass(frozen=True)
class Drop:
    """A file that the inbox would take, and the jobs that it asks for."""

    path: Path
    raw: bytes
    jobs: tuple[Job, ...]


def read_drop(path: Path) -> Drop:
    """Raises JobError with every problem, DropError."""
    try:
        raw = path.read_bytes()
        return Drop(path, raw, tuple(_jobs(path, raw)))
    except IsADirectoryError as error:
        raise DropError(f"{path} is a folder: name the job in it.") from error
    except OSError as error:
        raise DropError(f"{path} cannot be read: {error.strerror}.") from error


def _jobs(path: Path, raw: bytes) -> list[Job]:
    where = str(path)
    match path.suffix.lower():
        case ".toml":
            return [parse_job(raw, where)]
        case ".png":
            return [parse_job(job_of_record(read_record(path)).encode(), where)]
        case ".txt":
            return [
                parse_job(text, f"{where}, prompt {number}") for number, text in enumerate(jobs_of_text(raw, where), 1)
            ]
    raise DropError(f"{path} is no job: the inbox takes .toml, .png and .txt files.")
