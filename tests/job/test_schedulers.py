"""Schedulers: one table, and every name in use for them leads to it."""

from __future__ import annotations

import pytest

from invokeai_daemon.job.schedulers import (
    ALIASES,
    BY_NAME,
    SAMPLERS_23,
    SCHEDULERS,
    TABLE,
    a1111_words,
    canonical,
    from_a1111,
)


def test_all_31_names_of_invokeai_are_there_once() -> None:
    assert len(SCHEDULERS) == len(set(SCHEDULERS)) == len(TABLE) == 31


def test_the_aliases_lead_to_schedulers_and_hide_none() -> None:
    assert set(ALIASES.values()) <= set(SCHEDULERS)
    assert not set(ALIASES) & set(SCHEDULERS)
    assert all(canonical(name) == BY_NAME[name].name for name in SCHEDULERS)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("k_euler_a", "euler_a"), ("plms", "pndm"), ("k_dpmpp_2", "dpmpp_2m"), (" DDIM ", "ddim"), ("k_eular", None)],
)
def test_names_of_2_3_are_understood(written: str, meant: str | None) -> None:
    assert canonical(written) == meant


def test_2_3_understands_what_is_written_for_it() -> None:
    assert all(canonical(sampler) == name for name, sampler in SAMPLERS_23.items())


def test_karras_twins_differ_in_the_spacing_alone() -> None:
    for scheduler in TABLE:
        if scheduler.is_karras:
            plain = BY_NAME[scheduler.name.removesuffix("_k")]
            assert plain.class_name == scheduler.class_name
            assert {**plain.options, "use_karras_sigmas": True} == scheduler.options


@pytest.mark.parametrize("name", SCHEDULERS)
def test_words_of_a1111_lead_back_to_the_scheduler(name: str) -> None:
    assert from_a1111(*a1111_words(name)) == name


@pytest.mark.parametrize(
    ("sampler", "schedule", "meant"),
    [
        ("DPM++ 2M", "Karras", "dpmpp_2m_k"),
        ("DPM++ 2M Karras", "", "dpmpp_2m_k"),
        ("DPM++ 2M", "Automatic", "dpmpp_2m"),
        ("Euler a", "", "euler_a"),
        ("Restart", "", None),
    ],
)
def test_old_and_new_words_of_a1111_are_understood(sampler: str, schedule: str, meant: str | None) -> None:
    assert from_a1111(sampler, schedule) == meant
