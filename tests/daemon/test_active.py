"""Which images the renderer gets, in which order, and what the death of a worker costs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from invokeai_daemon.daemon.active import INTERRUPTION, Active, Board, Handout
from invokeai_daemon.job.plan import Image, ModelRef, Plan
from invokeai_daemon.output.results import Outcome, Results
from invokeai_daemon.spool.spool import Ticket

ATTEMPTS = 3


class Bench:
    """Jobs on disk and a board with a window of four."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.board = Board(window=4)
        self.count = 0

    def job(self, job_id: str, images: int, priority: int = 0, crash_window: int = 0) -> Active:
        self.count += 1
        plan = Plan(
            job_id,
            ModelRef("paint", "/nowhere", "sd-1"),
            tuple(Image(n, n, "x", "", 64, 64, 4, 7.5, "euler") for n in range(1, images + 1)),
            priority,
        )
        (self.folder / job_id).mkdir(exist_ok=True)
        ticket = Ticket(job_id, "running", self.folder / f"{job_id}.toml", priority, self.count)
        job = Active.begin(ticket, plan, Results(self.folder / job_id), crash_window)
        self.board.add(job)
        return job

    def out(self, now: float = 0.0) -> list[tuple[str, tuple[int, ...], bool]]:
        return [_told(handout) for handout in self.board.handouts(now)]


def _told(handout: Handout) -> tuple[str, tuple[int, ...], bool]:
    return (handout.job.id, handout.images, handout.alone)


def done(job: Active, numbers: Iterable[int]) -> None:
    for number in numbers:
        assert job.end(Outcome(number, "done"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_window_is_filled_across_jobs_in_order(bench: Bench) -> None:
    bench.job("a", 3)
    bench.job("b", 3)
    assert bench.out() == [("a", (1, 2, 3), False), ("b", (1,), False)]
    assert bench.out() == []


def test_a_published_image_makes_room_for_the_next(bench: Bench) -> None:
    a = bench.job("a", 6)
    bench.out()
    done(a, [2])
    assert bench.out() == [("a", (5,), False)]


def test_a_higher_priority_goes_first(bench: Bench) -> None:
    bench.job("low", 9)
    bench.out()
    high = bench.job("high", 2, priority=10)
    assert bench.board.room(high.order, 0.0) < 4
    done(bench.board.jobs["low"], [1, 2])
    assert bench.out() == [("high", (1, 2), False)]


def test_a_long_job_of_low_priority_does_not_close_the_window_to_a_higher_one(bench: Bench) -> None:
    low = bench.job("low", 1000)
    bench.out()
    done(low, [1, 2])
    assert bench.board.room((0, 99), 0.0) <= 0
    assert bench.board.room((-5, 99), 0.0) == 2


def test_a_death_makes_suspects_of_what_was_held_and_they_go_alone(bench: Bench) -> None:
    a = bench.job("a", 6)
    bench.out()
    done(a, [1])
    assert bench.board.lose("it died") == [a]
    assert bench.out() == [("a", (5, 6), False)]
    done(a, [5, 6])
    assert bench.out() == [("a", (2,), True)]
    assert bench.out() == []
    done(a, [2])
    assert bench.out() == [("a", (3,), True)]


def test_suspects_go_before_the_images_of_younger_jobs(bench: Bench) -> None:
    a = bench.job("a", 2)
    bench.out()
    bench.board.lose("it died")
    b = bench.job("b", 2)
    assert bench.board.room(b.order, 0.0) == 0
    assert bench.out() == [("a", (1,), True)]
    done(a, [1])
    assert bench.out() == [("a", (2,), True)]
    done(a, [2])
    assert bench.out() == [("b", (1, 2), False)]


def test_the_suspect_that_was_tried_least_is_tried_next(bench: Bench) -> None:
    a = bench.job("a", 3)
    bench.out()
    bench.board.lose("it died")
    assert bench.out() == [("a", (1,), True)]
    bench.board.lose("it died")
    assert bench.out() == [("a", (2,), True)]
    bench.board.lose("it died")
    assert bench.out() == [("a", (3,), True)]
    assert a.tries.lost == {1: 2, 2: 2, 3: 1}


def test_the_unlucky_of_all_jobs_are_tried_before_one_of_them_is_tried_out(bench: Bench) -> None:
    jobs = [bench.job(f"job{number:02}", 1) for number in range(4)]
    bench.out()
    bench.board.lose("killed")
    for expected in ("job00", "job01", "job02", "job03", "job00"):
        assert bench.out() == [(expected, (1,), True)]
        bench.board.lose("killed")
    assert [job.tries.lost[1] for job in jobs] == [3, 2, 2, 2]


def test_a_kill_from_outside_costs_half_as_much_as_a_crash(bench: Bench) -> None:
    a = bench.job("a", 1)
    for _ in range(2 * ATTEMPTS):
        assert not a.give_up(ATTEMPTS)
        bench.out()
        bench.board.lose("killed", INTERRUPTION)
    assert a.give_up(ATTEMPTS)


def test_an_image_whose_tries_are_used_up_fails_and_its_job_goes_on(bench: Bench) -> None:
    a = bench.job("a", 2)
    for _ in range(10):
        for _, images, _ in bench.out():
            if 1 not in images:
                done(a, images)
        if a.held:
            bench.board.lose("killed by SIGSEGV")
            a.give_up(ATTEMPTS)
    assert a.is_finished
    assert [(outcome.number, outcome.error) for outcome in a.failures] == [
        (1, "killed by SIGSEGV; all of its 3 tries are used up")
    ]


def test_every_try_is_on_disk_before_it_begins(bench: Bench) -> None:
    bench.job("a", 2)
    bench.out()
    again = bench.job("a", 2, crash_window=4)
    assert again.tries.lost == {1: INTERRUPTION, 2: INTERRUPTION}


def test_a_crash_without_a_note_counts_against_the_first_images_only(bench: Bench) -> None:
    job = bench.job("a", 10, crash_window=4)
    assert job.suspects == {1, 2, 3, 4}
    assert sorted(job.fresh) == [5, 6, 7, 8, 9, 10]


def test_what_is_published_is_not_rendered_again(bench: Bench) -> None:
    folder = bench.folder / "a"
    folder.mkdir()
    (folder / "0002.2.png").write_bytes(b"")
    job = bench.job("a", 3, crash_window=4)
    assert job.outcomes == {2: Outcome(2, "done")}
    assert job.suspects == {1, 3}


def test_what_was_published_in_the_instant_of_a_crash_is_held_by_nobody(bench: Bench) -> None:
    bench.job("a", 2)
    bench.out()
    (bench.folder / "a" / "0001.1.png").write_bytes(b"")
    again = bench.job("a", 2, crash_window=4)
    assert again.held == set()
    assert again.tries.lost == {2: INTERRUPTION}
    assert bench.out() == [("a", (2,), True)]


def test_a_clean_stop_costs_nothing(bench: Bench) -> None:
    bench.job("a", 3)
    bench.out()
    bench.board.release()
    again = bench.job("a", 3, crash_window=4)
    assert not again.suspects
    assert again.tries.lost == {}


def test_a_lost_try_is_remembered_across_a_clean_stop(bench: Bench) -> None:
    bench.job("a", 1)
    bench.out()
    bench.board.lose("it died")
    bench.out()
    bench.board.release()
    again = bench.job("a", 1, crash_window=4)
    assert again.tries.lost == {1: 1}
    assert again.suspects == {1}


def test_a_pausing_suspect_lets_younger_jobs_pass(bench: Bench) -> None:
    a = bench.job("a", 1)
    bench.out()
    a.lose([1], "out of memory")
    a.not_before[1] = 60.0
    bench.job("b", 1)
    assert bench.out(now=1.0) == [("b", (1,), False)]
    assert bench.board.next_time() == float("inf")
    done(bench.board.jobs["b"], [1])
    assert bench.board.next_time() == 60.0
    assert bench.out(now=60.0) == [("a", (1,), True)]


def test_an_end_that_is_told_twice_counts_once(bench: Bench) -> None:
    a = bench.job("a", 2)
    assert a.end(Outcome(1, "done"))
    assert not a.end(Outcome(1, "failed", error="late"))
    assert not a.end(Outcome(99, "done"))
    assert a.pending == 1


def test_a_disk_that_takes_no_note_gets_no_image_out_and_loses_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    a = bench.job("a", 3)
    with monkeypatch.context() as broken:
        broken.setattr("invokeai_daemon.files.write_atomically", full)
        with pytest.raises(OSError, match="No space"):
            bench.out()
        assert a.held == set()
        a.lose([3], "it died")
    assert bench.out() == [("a", (1, 2), False)]
    assert a.tries.lost == {3: 1}


def test_an_image_that_was_lost_alone_too_goes_behind_the_rest_of_the_board(bench: Bench) -> None:
    bench.job("a", 1)
    b = bench.job("b", 1)
    assert bench.out() == [("a", (1,), False), ("b", (1,), False)]
    bench.board.lose("killed")
    assert bench.out() == [("a", (1,), True)]
    bench.board.lose("killed")
    assert bench.out() == [("b", (1,), True)]
    assert bench.out() == []
    done(b, [1])
    assert bench.out() == [("a", (1,), True)]


def test_kills_from_outside_that_are_fewer_than_the_images_use_up_no_images_tries(bench: Bench) -> None:
    jobs = [bench.job(f"job{number}", 1) for number in range(4)]
    bench.out()
    for _ in range(5):
        for job in bench.board.lose("killed"):
            assert job.give_up(ATTEMPTS) == []
        assert len(bench.out()) == 1
    assert all(not job.outcomes for job in jobs)
