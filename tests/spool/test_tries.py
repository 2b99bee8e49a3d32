"""Tries are on disk before they begin, and a crash counts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from invokeai_daemon.spool.tries import Tries


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return tmp_path / "cat.toml"


def test_a_job_without_a_note_has_no_tries(job: Path) -> None:
    tries = Tries.of(job)
    assert (tries.handed, tries.lost, tries.noted) == (set(), {}, False)


def test_what_was_handed_is_known_after_a_crash(job: Path) -> None:
    Tries.of(job).hand([1, 2, 3])
    after = Tries.of(job)
    assert after.noted
    assert after.handed == {1, 2, 3}


def test_a_lost_try_is_counted_on_disk(job: Path) -> None:
    tries = Tries.of(job)
    tries.hand([1, 2])
    tries.lose([2])
    tries.hand([2])
    tries.lose([2])
    after = Tries.of(job)
    assert after.lost == {2: 2}
    assert after.handed == {1}


def test_images_given_back_without_fault_count_for_nothing(job: Path) -> None:
    tries = Tries.of(job)
    tries.hand([1, 2])
    tries.release()
    after = Tries.of(job)
    assert (after.handed, after.lost) == (set(), {})


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"handed": 3}', b'{"handed": ["x"], "lost": {}}', b"\xff\xfe"])
def test_a_damaged_note_is_no_note(job: Path, text: bytes) -> None:
    job.with_name("cat.tries.json").write_bytes(text)
    assert not Tries.of(job).noted


def test_retries_wait_for_the_disk_and_first_tries_do_not(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[bool] = []
    monkeypatch.setattr("invokeai_daemon.files.write_atomically", lambda *_, durable: waits.append(durable))
    tries = Tries.of(job)
    tries.hand([1, 2])
    tries.lose([1])
    tries.hand([1])
    assert waits == [False, True, True]
