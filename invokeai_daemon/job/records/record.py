"""A record: the most telling chunk of a picture, as its writer put it and as the keys of a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from invokeai_daemon.errors import JobError, Problem
from invokeai_daemon.job.parse import job_of
from invokeai_daemon.job.records import a1111, invokeai, invokeai_2, own
from invokeai_daemon.job.records.collector import A1111_CHUNK, INVOKEAI_CHUNK, OWN_CHUNK, Collector, Reader
from invokeai_daemon.strict_toml import Document, dump_toml

#: The chunks that make a record, the most telling first: who wrote it, and how it is read.
_READERS: tuple[tuple[str, str, Reader], ...] = (
    (OWN_CHUNK, "invokeai-daemon", own.read),
    (INVOKEAI_CHUNK, "invokeai", invokeai.read),
    (invokeai_2.METADATA_CHUNK, "invokeai-2", invokeai_2.read_metadata),
    (invokeai_2.DREAM_CHUNK, "invokeai-2", invokeai_2.read_dream),
    (A1111_CHUNK, "a1111", a1111.read),
)


@dataclass(frozen=True)
class Record:
    """What the text chunks of a picture say, from the most telling chunk."""

    #: The file, as messages name it.
    where: str
    #: Who wrote it: "invokeai-daemon", "invokeai" (3 and later), "invokeai-2", "a1111".
    writer: str
    #: The record as its writer put it: JSON, or the fields of a text.
    data: dict[str, Any]
    #: The keys of a job that makes the picture again, as far as the record tells.
    job: dict[str, Any] = field(default_factory=dict)
    #: What of the picture a job cannot ask for.
    problems: tuple[Problem, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "writer": self.writer,
            "record": self.data,
            "job": self.job,
            "problems": [str(problem) for problem in self.problems],
        }


def record_of_chunks(chunks: Mapping[str, str], where: str) -> Record | None:
    """The record in the text chunks of a picture; None when none of the writers above wrote one."""
    for name, writer, read in _READERS:
        if name in chunks:
            return _record(where, writer, name, chunks, read)
    return None


def job_of_record(record: Record) -> str:
    """A job file that makes the picture again. Raises JobError naming everything that a job cannot ask for."""
    if record.problems:
        raise JobError(record.where, record.problems)
    return dump_toml(record.job)


def _record(where: str, writer: str, name: str, chunks: Mapping[str, str], read: Reader) -> Record:
    found = Collector()
    try:
        data = read(chunks, found)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as failure:
        # The text of a chunk is anybody's; whatever shape it has instead of the writer's is one problem, not a crash.
        problem = Problem(f"The {writer} record is damaged: {type(failure).__name__}: {str(failure)[:200]}.")
        return Record(where, writer, {"text": chunks[name]}, problems=(problem,))
    return Record(where, writer, data, found.job, (*found.problems, *_job_problems(found.job, where)))


def _job_problems(job: dict[str, Any], where: str) -> tuple[Problem, ...]:
    try:
        job_of(Document(where, job, {}))
    except JobError as error:
        return error.problems
    return ()
