"""A job is in exactly one folder, and each step is a rename that nobody can see half done."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from invokeai_daemon import files
from invokeai_daemon.root import STATES, Root
from invokeai_daemon.spool import disk
from invokeai_daemon.spool.spool import Spool, Ticket


@pytest.fixture
def spool(root: Root) -> Spool:
    return Spool(root)


def drop(spool: Spool, name: str = "cat.toml", text: str = "x") -> Path:
    path = spool.root.inbox / name
    path.write_text(text)
    return path


def accepted(spool: Spool, stem: str = "cat", priority: int = 0) -> Ticket:
    return spool.accept(drop(spool, f"{stem}.toml"), spool.free_id(stem), priority)


def homes(spool: Spool, job_id: str) -> list[str]:
    return [state for state in STATES for ticket in spool.jobs(state) if ticket.id == job_id]


def test_a_job_goes_from_folder_to_folder(spool: Spool) -> None:
    ticket = accepted(spool)
    assert homes(spool, "cat") == ["queued"]
    ticket = spool.claim(ticket)
    assert homes(spool, "cat") == ["running"]
    spool.finish(ticket)
    assert homes(spool, "cat") == ["done"]
    assert not list(spool.root.inbox.glob("*.toml"))


def test_names_in_the_queue_are_in_running_order(spool: Spool) -> None:
    for stem, priority in [("a", 0), ("b", 5), ("c", 0), ("d", -5), ("e", 5)]:
        accepted(spool, stem, priority)
    assert [ticket.id for ticket in spool.jobs("queued")] == ["b", "e", "a", "c", "d"]
    assert [path.name[14:] for path in sorted(spool.root.state_folder("queued").iterdir())] == [
        f"{job_id}.toml" for job_id in "beacd"
    ]


def test_jobs_that_come_after_a_restart_run_after_those_that_were_there(spool: Spool) -> None:
    accepted(spool, "first")
    accepted(Spool(spool.root), "second")
    assert [ticket.id for ticket in spool.jobs("queued")] == ["first", "second"]


@pytest.mark.parametrize("state", STATES)
def test_an_id_that_any_state_has_gets_a_number(spool: Spool, state: str) -> None:
    ticket = accepted(spool)
    if state != "queued":
        ticket.path.rename(spool.root.state_folder(state) / "cat.toml")
        spool.look_at_queue()
    assert accepted(spool).id == "cat-2"
    assert accepted(spool).id == "cat-3"


def test_an_id_whose_results_exist_gets_a_number(spool: Spool) -> None:
    (spool.root.outputs / "cat").mkdir()
    (spool.root.outputs / "cat" / "job.toml").touch()
    assert accepted(spool).id == "cat-2"


def test_a_thousand_drops_of_one_name_stay_cheap(spool: Spool) -> None:
    looks = 0
    known = spool.is_known

    def counted(*args: object) -> bool:
        nonlocal looks
        looks += 1
        return known(*args)  # type: ignore[arg-type]

    spool.is_known = counted  # type: ignore[method-assign]
    for _ in range(300):
        accepted(spool)
    assert looks < 300 * 5


def test_a_failed_job_moved_back_keeps_its_id_and_loses_its_error(spool: Spool) -> None:
    (spool.root.outputs / "cat").mkdir()
    failed = spool.fail(Ticket("cat", "new", drop(spool)), "it is wrong")
    assert spool.note(failed) == "it is wrong\n"
    again = spool.accept(spool.retry(failed), spool.free_id("cat"), 0)
    assert again.id == "cat"
    assert not list(spool.root.state_folder("failed").iterdir())


def test_waiting_jobs_say_why_and_keep_their_place(spool: Spool) -> None:
    first = accepted(spool, "first")
    accepted(spool, "second")
    waiting = spool.wait(first, "no model")
    assert (spool.root.state_folder("waiting") / "first.why.txt").read_text() == "no model\n"
    spool.requeue(waiting, 0)
    assert not list(spool.root.state_folder("waiting").iterdir())
    assert [ticket.id for ticket in spool.jobs("queued")] == ["first", "second"]


def test_a_priority_edit_moves_a_job_in_the_queue(spool: Spool) -> None:
    accepted(spool, "a")
    late = accepted(spool, "b")
    spool.requeue(late, 9)
    assert [ticket.id for ticket in spool.jobs("queued")] == ["b", "a"]
    assert homes(spool, "b") == ["queued"]


def test_links_are_copied_and_what_they_lead_to_is_left_alone(spool: Spool, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("mine")
    (spool.root.inbox / "soft.toml").symlink_to(own)
    os.link(own, spool.root.inbox / "hard.toml")
    for stem in ("soft", "hard"):
        ticket = spool.accept(spool.root.inbox / f"{stem}.toml", spool.free_id(stem), 0)
        assert not ticket.path.is_symlink()
        assert ticket.path.stat().st_nlink == 1
        assert ticket.path.read_text() == "mine"
    assert own.read_text() == "mine"
    assert not list(spool.root.inbox.glob("*.toml"))


def test_a_job_crosses_file_systems_by_copy(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    real, crossings = os.rename, []

    def rename(source: object, target: object) -> None:
        if ".tmp-" not in str(source):
            crossings.append(source)
            raise OSError(errno.EXDEV, "cross-device link")
        real(source, target)  # type: ignore[arg-type]

    path = drop(spool, text="whole")
    monkeypatch.setattr(os, "rename", rename)
    ticket = spool.accept(path, "cat", 0)
    assert crossings
    assert ticket.path.read_text() == "whole"
    assert not path.exists()


def test_claiming_a_job_that_somebody_took_away_raises(spool: Spool) -> None:
    ticket = accepted(spool)
    ticket.path.unlink()
    with pytest.raises(FileNotFoundError):
        spool.claim(ticket)


def test_cancelling_removes_the_job_and_its_notes(spool: Spool) -> None:
    waiting = spool.wait(accepted(spool), "no model")
    spool.cancel(waiting)
    assert homes(spool, "cat") == []
    assert not list(spool.root.state_folder("waiting").iterdir())


def test_a_start_removes_leftovers_and_stray_notes_and_nothing_else(spool: Spool) -> None:
    running = spool.claim(accepted(spool))
    folder = running.path.parent
    for name in (".tmp-1-half.toml", "gone.tries.json", "cat.tries.json"):
        (folder / name).write_text("{}")
    (spool.root.state_folder("failed") / "moved.error.txt").write_text("the job was moved back: keep this")
    spool.recover()
    assert sorted(path.name for path in folder.iterdir()) == ["cat.toml", "cat.tries.json"]
    assert (spool.root.state_folder("failed") / "moved.error.txt").exists()


def test_children_of_a_list_are_added_once_whatever_became_of_them(spool: Spool) -> None:
    first = spool.add("list-0001", b"x", 0)
    assert first is not None
    assert spool.add("list-0001", b"x", 0) is None
    spool.finish(spool.claim(first))
    assert spool.add("list-0001", b"x", 0) is None


def test_a_batch_of_steps_syncs_each_folder_once(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(files, "sync_folder", lambda path: synced.append(path.name))
    for number in range(20):
        spool.claim(accepted(spool, f"job{number}"))
    assert not synced
    spool.sync()
    assert sorted(synced) == ["inbox", "queued", "running"]


def test_an_error_of_the_disk_is_not_swallowed(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    accepted(spool)
    monkeypatch.setattr(files, "sync_folder", broken)
    with pytest.raises(OSError, match="Input/output"):
        spool.sync()


def test_calls_side_by_side_report_each_failure() -> None:
    def fails() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert [failure is None for failure in disk.together([lambda: 1, fails, lambda: 2])] == [True, False, True]


def test_counts_are_of_jobs_not_of_notes(spool: Spool) -> None:
    spool.wait(accepted(spool, "a"), "no model")
    spool.reject(drop(spool, "b.png"), "b", "no record")
    spool.finish(spool.set_aside(drop(spool, "c.txt"), "c"))
    assert {state: spool.count(state) for state in STATES} == {
        "queued": 0,
        "waiting": 1,
        "running": 0,
        "done": 0,
        "failed": 1,
    }
