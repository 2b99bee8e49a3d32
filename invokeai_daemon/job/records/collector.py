"""What the readers of records share: the names of the chunks, and where job keys and problems are collected."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from invokeai_daemon.errors import Problem
from invokeai_daemon.job.plan_job import AS_ASKED
from invokeai_daemon.strict_toml import show

#: The text chunk with our own record.
OWN_CHUNK = "invokeai_daemon"
INVOKEAI_CHUNK = "invokeai_metadata"
A1111_CHUNK = "parameters"
#: The field in the texts for others with what they have no words for, as JSON.
OWN_FIELD = "invokeai-daemon"
#: How the field that names the writing program begins in texts of ours.
OWN_VERSION = "invokeai-daemon "


class Collector:
    """The job keys and the problems of one record, as they are found."""

    def __init__(self) -> None:
        self.job: dict[str, Any] = {}
        self.problems: list[Problem] = []

    def take(self, key: str, value: Any) -> None:
        if value is not None:
            self.job[key] = value

    def take_variations(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        if listed := [list(pair) for pair in pairs]:
            self.job["variation"] = {"with": listed}

    def take_tables(self, values: Mapping[str, Any]) -> None:
        """The tables of a job that stand in a record of ours as a job has them."""
        for key in AS_ASKED:
            if values.get(key) not in (None, []):
                self.job[key] = _lean(values[key])

    def refuse(self, key: str, what: str) -> None:
        """The picture was made with something that no job can ask for."""
        self.problems.append(Problem(f"The picture was made with {what}, which is not supported yet.", key))

    def lacks(self, key: str, what: str, hint: str) -> None:
        """The picture was made from another one, which its record does not hold."""
        self.problems.append(
            Problem(f"The picture was made from {what}, which its record does not hold.", key, None, hint)
        )

    def scheduler(self, key: str, name: Any, known: str | None) -> None:
        if known is None:
            self.problems.append(Problem(f"{show(name)} is no scheduler that is known here.", key))
        else:
            self.job["scheduler"] = known


#: Reads the chunks of a picture into a collector; returns the record as its writer put it.
Reader = Callable[[Mapping[str, str], Collector], dict[str, Any]]


def json_object(text: str) -> dict[str, Any]:
    """Raises ValueError."""
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("it is no JSON object")
    return data


def _lean(value: Any) -> Any:
    """A table without what is empty in it, which says nothing and would print as a header with nothing below."""
    if isinstance(value, list):
        return [_lean(each) for each in value]
    if isinstance(value, dict):
        return {key: inner for key, inner in value.items() if inner not in ({}, None)}
    return value
