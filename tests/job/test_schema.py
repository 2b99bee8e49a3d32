"""The JSON Schema says about a job what the parser says."""

from __future__ import annotations

from typing import Any

from invokeai_daemon.job.schedulers import ALIASES, SCHEDULERS
from invokeai_daemon.job.schema import Job, json_schema


def test_every_key_of_a_job_is_described() -> None:
    properties: dict[str, Any] = json_schema()["properties"]
    assert set(properties) == set(Job.model_fields) - {"own"}
    assert all(described.get("description") for described in properties.values())


def test_unknown_keys_are_errors_and_own_keys_are_not() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert list(schema["patternProperties"]) == ["^x-"]
    assert schema["required"] == ["prompt"]


def test_editors_learn_the_rules_of_values() -> None:
    properties = json_schema()["properties"]
    width, scheduler = properties["width"]["anyOf"][0], properties["scheduler"]["anyOf"][0]
    assert (width["minimum"], width["maximum"], width["multipleOf"]) == (64, 32768, 8)
    assert set(scheduler["enum"]) == {*SCHEDULERS, *ALIASES}
    assert properties["seed"]["anyOf"][0]["maximum"] == 2**32 - 1
