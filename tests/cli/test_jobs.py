"""jobs, pause, resume: the same as looking into folders and moving files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from invokeai_daemon.root import Root
from tests.conftest import Program


@pytest.fixture
def spool(root: Root) -> Root:
    """One job in each state, two queued."""
    for state, name in (
        ("queued", "1000-00000002-second.toml"),
        ("queued", "0990-00000003-first.toml"),
        ("waiting", "later.toml"),
        ("running", "now.toml"),
        ("failed", "bad.toml"),
        ("done", "old.toml"),
    ):
        (root.state_folder(state) / name).write_text(f'prompt = "{name}"\n')
    (root.state_folder("waiting") / "later.why.txt").write_text('No model is called "foo".\n')
    (root.state_folder("failed") / "bad.error.txt").write_text("bad.toml: line 1: no.\nAnd more.\n")
    return root


def test_the_list_shows_queued_jobs_in_running_order_and_why_others_do_not_run(program: Program, spool: Root) -> None:
    listed = program("jobs", "list").stdout
    places = [listed.index(word) for word in ("now", "first", "second", "later", "bad", "old")]
    assert places == sorted(places)
    assert 'No model is called "foo".' in listed
    assert "bad.toml: line 1: no. And more." in listed


def test_a_state_without_jobs_is_told_as_such(program: Program, root: Root) -> None:
    assert program("jobs", "list", "--state", "failed").stdout == "No failed jobs.\n"


def test_the_list_as_json_names_state_file_and_reason(program: Program, spool: Root) -> None:
    rows = {row["job"]: row for row in json.loads(program("jobs", "list", "--json").stdout)}
    assert set(rows) == {"now", "first", "second", "later", "bad", "old"}
    assert rows["first"]["priority"] == 10
    assert rows["bad"]["why"] == "bad.toml: line 1: no. And more."
    assert rows["old"]["state"] == "done"
    assert Path(rows["old"]["file"]).exists()


def test_only_the_last_done_jobs_are_listed_unless_all_are_asked_for(program: Program, root: Root) -> None:
    for number in range(30):
        (root.state_folder("done") / f"job-{number:02}.toml").write_text("")
    few = program("jobs", "list").stdout.split()
    assert "job-29" in few and "job-10" in few and "job-09" not in few
    assert program("jobs", "list", "--all").stdout.count("job-") == 30


def test_an_empty_spool_says_how_to_begin(program: Program) -> None:
    assert "Drop one into inbox/" in program("jobs", "list").stdout


def test_show_prints_the_job_and_the_whole_error(program: Program, spool: Root) -> None:
    shown = program("jobs", "show", "bad").stdout
    assert "And more." in shown
    assert 'prompt = "bad.toml"' in shown


def test_a_job_that_does_not_exist_is_an_error_of_every_command(program: Program, spool: Root) -> None:
    for command in ("show", "cancel", "retry"):
        refused = program("jobs", command, "nobody")
        assert refused.returncode == 1
        assert "nobody" in refused.stderr


def test_cancel_removes_the_file_and_its_note_and_leaves_pictures(program: Program, spool: Root) -> None:
    picture = spool.outputs / "now" / "0001.1.png"
    picture.parent.mkdir()
    picture.write_bytes(b"")
    assert program("jobs", "cancel", "now", "later", "first").returncode == 0
    assert list(spool.state_folder("running").iterdir()) == []
    assert list(spool.state_folder("waiting").iterdir()) == []
    assert [path.name for path in spool.state_folder("queued").iterdir()] == ["1000-00000002-second.toml"]
    assert picture.exists()


def test_what_is_over_cannot_be_cancelled_and_one_such_name_cancels_nothing(program: Program, spool: Root) -> None:
    refused = program("jobs", "cancel", "old")
    assert refused.returncode == 1
    assert "old is done" in refused.stderr


def test_retry_moves_a_failed_job_back_into_the_inbox(program: Program, spool: Root) -> None:
    moved = program("jobs", "retry", "bad")
    assert moved.returncode == 0
    assert (spool.inbox / "bad.toml").read_text() == 'prompt = "bad.toml"\n'
    assert not (spool.state_folder("failed") / "bad.toml").exists()


def test_retry_of_a_job_that_is_done_names_the_file_to_submit(program: Program, spool: Root) -> None:
    refused = program("jobs", "retry", "old")
    assert refused.returncode == 1
    assert "submit outputs/old/job.toml" in refused.stderr


def test_pause_and_resume_are_a_file(program: Program, root: Root) -> None:
    assert program("pause").returncode == 0
    assert (root.inbox / "PAUSE").exists()
    for _ in range(2):
        assert program("resume").returncode == 0
    assert not (root.inbox / "PAUSE").exists()
