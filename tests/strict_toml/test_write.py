"""TOML out: what is written is read back as it was."""

from __future__ import annotations

import tomllib
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invokeai_daemon.strict_toml import dump_toml
from tests.strict_toml.values import texts, values


@given(st.dictionaries(texts, values, max_size=5))
@settings(deadline=None, max_examples=200)
def test_a_table_is_read_back_as_it_was_written(table: dict[str, Any]) -> None:
    assert tomllib.loads(dump_toml(table)) == table


def test_none_is_left_out_and_tables_come_last() -> None:
    assert (
        dump_toml({"t": {"a": 1, "n": None}, "x": None, "b": [1, {"c": "d"}]}) == 'b = [1, {c = "d"}]\n\n[t]\na = 1\n'
    )


def test_each_table_of_a_list_has_a_header_of_its_own() -> None:
    loras = [{"name": "ink", "weight": 0.8}, {"name": "oil"}]
    assert (
        dump_toml({"loras": loras, "x": 1})
        == 'x = 1\n\n[[loras]]\nname = "ink"\nweight = 0.8\n\n[[loras]]\nname = "oil"\n'
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), date(2020, 1, 1), object()])
def test_what_json_cannot_carry_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        dump_toml({"a": value})
