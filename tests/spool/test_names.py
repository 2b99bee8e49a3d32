"""Ids are safe file names everywhere; queued names sort in running order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invokeai_daemon.spool.names import MAX_ID_BYTES, QueuedName, numbered, parse_queued, safe_id


@given(st.text(max_size=300))
def test_any_stem_gives_a_safe_id(stem: str) -> None:
    job_id = safe_id(stem)
    assert 0 < len(job_id.encode()) <= MAX_ID_BYTES
    assert not set(job_id) & set('/\\:*?"<>|\0\n\x1b ')
    assert job_id[0] not in "-." and job_id not in (".", "..")
    assert job_id.isprintable()


@given(st.binary(max_size=200))
def test_names_that_are_no_text_give_safe_ids_too(raw: bytes) -> None:
    assert safe_id(raw.decode("utf-8", "surrogateescape")).encode()


@pytest.mark.parametrize(
    ("stem", "job_id"),
    [
        ("cat", "cat"),
        ("Körbe im Wind", "Körbe-im-Wind"),
        ("../../etc/passwd", "etc-passwd"),
        ("-rf", "rf"),
        ("a\nb\x1b[31m", "a-b-31m"),
        ("\u202egnp.exe", "gnp.exe"),
        ("...", "job"),
        ("", "job"),
        ("CON", "CON-job"),
        ("nul.txt", "nul.txt-job"),
    ],
)
def test_what_is_unsafe_in_a_stem_becomes_a_dash(stem: str, job_id: str) -> None:
    assert safe_id(stem) == job_id


def test_long_stems_with_a_common_beginning_stay_apart() -> None:
    assert safe_id("a" * 300 + "1") != safe_id("a" * 300 + "2")


def test_composed_and_decomposed_letters_give_one_id() -> None:
    assert safe_id("e\u0301te\u0301") == safe_id("\u00e9t\u00e9")


@given(st.text(max_size=200), st.integers(2, 10**6))
def test_a_numbered_id_stays_within_the_bound(stem: str, number: int) -> None:
    assert len(numbered(safe_id(stem), number).encode()) <= MAX_ID_BYTES


@given(st.lists(st.tuples(st.integers(-1000, 1000), st.integers(1, 99_999_999)), unique=True))
def test_sorted_names_are_in_running_order(places: list[tuple[int, int]]) -> None:
    names = [str(QueuedName(priority, sequence, "x")) for priority, sequence in places]
    by_name = [parse_queued(name) for name in sorted(names)]
    by_order = sorted(places, key=lambda place: (-place[0], place[1]))
    assert [(name.priority, name.sequence) for name in by_name if name] == by_order


@pytest.mark.parametrize("name", ["cat.toml", "1000-1-cat.toml", "9999-00000001-cat.toml", "1000-00000001-cat.txt"])
def test_names_that_the_spool_did_not_give_are_not_parsed(name: str) -> None:
    assert parse_queued(name) is None
