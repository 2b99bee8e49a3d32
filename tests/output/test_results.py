"""Results: what is planned stays planned, pictures appear once and whole, and result.json tells what became of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from invokeai_daemon.job.plan import Image, ModelRef, Plan
from invokeai_daemon.job.plan_job import from_resolved
from invokeai_daemon.output.results import Outcome, Results

MODEL = ModelRef("demo", "/home/me/demo", "sd-1", hash="blake3:00")


def plan_of(*seeds: int) -> Plan:
    images = tuple(Image(n, seed, "a cat", "", 64, 64, 4, 7.5, "euler") for n, seed in enumerate(seeds, start=1))
    return Plan("cat", MODEL, images, meta={"x-mood": "calm"})


PLAN = plan_of(7, 8, 9)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "outputs" / "cat")


def test_the_plan_is_on_disk_before_any_picture(results: Results) -> None:
    results.begin(PLAN)
    assert from_resolved(results.job_file.read_bytes(), "job.toml") == PLAN
    assert results.published(PLAN) == set()


def test_what_was_planned_first_stays(results: Results) -> None:
    results.begin(PLAN)
    results.begin(plan_of(1, 2, 3))
    assert from_resolved(results.job_file.read_bytes(), "job.toml") == PLAN


def test_nothing_is_published_where_nothing_began(results: Results) -> None:
    assert results.published(PLAN) == set()


def test_a_picture_is_published_under_its_own_name_once(results: Results) -> None:
    results.begin(PLAN)
    assert results.publish(PLAN, PLAN.images[1], b"first") == "0002.8.png"
    assert results.publish(PLAN, PLAN.images[1], b"second") == "0002.8.png"
    assert (results.folder / "0002.8.png").read_bytes() == b"first"
    assert results.published(PLAN) == {2}


def test_a_crash_while_writing_leaves_nothing_behind_after_the_next_start(results: Results) -> None:
    results.begin(PLAN)
    (results.folder / ".tmp-1234-abcd-0001.7.png").write_bytes(b"half a pict")
    results.begin(PLAN)
    assert [path.name for path in results.folder.iterdir()] == ["job.toml"]
    assert results.published(PLAN) == set()


def test_a_full_disk_leaves_no_partial_picture(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    results.begin(PLAN)

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        results.publish(PLAN, PLAN.images[0], b"picture")
    assert [path.name for path in results.folder.iterdir()] == ["job.toml"]


def test_result_json_tells_how_each_image_ended(results: Results) -> None:
    results.begin(PLAN)
    results.publish(PLAN, PLAN.images[0], b"png")
    results.finish(
        PLAN,
        [Outcome(1, "done", 1.5, ("the prompt was cut",)), Outcome(2, "failed", error="out of memory")],
        {"cuda": "12.8"},
    )
    told = json.loads(results.result_file.read_text())
    assert told["images"] == [
        {
            "number": 1,
            "state": "done",
            "file": "0001.7.png",
            "seed": 7,
            "seconds": 1.5,
            "warnings": ["the prompt was cut"],
            "error": None,
        },
        {
            "number": 2,
            "state": "failed",
            "file": None,
            "seed": 8,
            "seconds": None,
            "warnings": [],
            "error": "out of memory",
        },
        {"number": 3, "state": "cancelled", "file": None, "seed": 9, "seconds": None, "warnings": [], "error": None},
    ]
    assert told["model"]["hash"] == "blake3:00"
    assert {"invokeai-daemon", "torch", "diffusers", "cuda"} <= set(told["versions"])
    assert told["x-mood"] == "calm"
    assert "/home/me" not in results.result_file.read_text()


def test_result_json_tells_tokens_where_a_job_asks(results: Results) -> None:
    results.begin(PLAN)
    tokens = {"prompt": [{"fragments": [{"text": "a cat", "weight": 1.0}], "tokens": ["a ", "cat "], "count": 2}]}
    results.finish(PLAN, [Outcome(1, "failed", tokenization=tokens), Outcome(2, "failed")])
    first, second, _ = json.loads(results.result_file.read_text())["images"]
    assert first["tokenization"] == tokens
    assert "tokenization" not in second


def test_what_lies_on_disk_is_done_whatever_the_last_try_said(results: Results) -> None:
    results.begin(PLAN)
    results.publish(PLAN, PLAN.images[2], b"png")
    results.finish(PLAN, [Outcome(3, "failed", error="the worker died")])
    told = json.loads(results.result_file.read_text())["images"][2]
    assert (told["state"], told["file"], told["error"]) == ("done", "0003.9.png", None)


def test_a_later_finish_replaces_the_result(results: Results) -> None:
    results.begin(PLAN)
    results.finish(PLAN, [])
    results.publish(PLAN, PLAN.images[0], b"png")
    results.finish(PLAN, [Outcome(1, "done", 2.0)])
    assert json.loads(results.result_file.read_text())["images"][0]["state"] == "done"
