"""From the bytes of a job file to a Job, or to all its problems at once. Called by the daemon and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invokeai_daemon.errors import JobError, SettingsError
from invokeai_daemon.job.schema import Job, Source, Values
from invokeai_daemon.strict_toml import Document, read_toml, validate


def parse_job(raw: bytes, where: str) -> Job:
    """The job in a TOML file; `where` names the file in messages. Raises JobError with all problems."""
    return job_of(read_toml(raw, where, JobError))


def job_of(document: Document) -> Job:
    """The job in a document that parsed. Raises JobError with all problems."""
    job = validate(Job, document, JobError)
    job._source = Source(document.where, document.lines)
    return job


def parse_defaults(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The `[defaults]` of the settings, checked like a job's keys. Raises SettingsError with all problems."""
    document = Document(f"{where} [defaults]", dict(table), {})
    return validate(Values, document, SettingsError).model_dump(exclude_none=True)
