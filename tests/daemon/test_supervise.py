"""A worker that dies or falls silent is replaced, after a pause that grows while it achieves nothing."""

from __future__ import annotations

import selectors
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from invokeai_daemon.daemon.supervise import LONGEST_PAUSE, LONGEST_START, Death, Worker

READY = 'os.write(1, b\'{"event": "ready", "worker": "renderer", "device": "cpu"}\\n\')\n'

Make = Callable[..., Worker]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Worker] = []
    selector = selectors.DefaultSelector()

    def make(program: str, silence: float = 1000.0) -> Worker:
        command = [sys.executable, "-S", "-c", f"import os, sys, time\n{program}"]
        made.append(Worker("renderer", command, selector, silence))
        return made[-1]

    yield make
    for worker in made:
        worker.end()
    selector.close()


def until(worker: Worker, condition: Callable[[], bool], now: float = 0.0) -> Death | None:
    """Listen until the condition holds or the worker dies; its death."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        _, death = worker.listen(now)
        if death is not None or condition():
            return death
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def test_a_worker_is_ready_when_it_says_so(make: Make) -> None:
    worker = make(READY + "sys.stdin.read()")
    assert worker.start(0.0)
    assert worker.state == "starting"
    until(worker, lambda: worker.is_ready)
    assert worker.about["device"] == "cpu"


def test_beats_are_no_news(make: Make) -> None:
    worker = make(READY + 'os.write(1, b\'{"event": "beat"}\\n{"event": "step"}\\n\'); sys.stdin.read()')
    worker.start(0.0)
    heard: list[dict[str, object]] = []
    end = time.monotonic() + 60
    while not heard and time.monotonic() < end:
        heard += worker.listen(0.0)[0]
    assert heard == [{"event": "step"}]


def test_a_death_is_told_once_with_how_and_why(make: Make) -> None:
    worker = make(READY + "sys.stderr.write('CUDA error\\n'); os.kill(os.getpid(), 11)")
    worker.start(0.0)
    death = until(worker, lambda: False)
    assert death is not None
    assert str(death) == "killed by SIGSEGV (CUDA error)"
    assert death.was_ready
    assert worker.listen(0.0) == ([], None)
    assert worker.state == "down"


def test_the_first_replacement_comes_at_once_and_later_ones_ever_later(make: Make) -> None:
    worker = make("sys.exit(1)")
    pauses, now = [], 0.0
    for _ in range(10):
        assert worker.start(now)
        until(worker, lambda: False, now)
        pauses.append(worker.next_time() - now)
        now = worker.next_time()
    assert pauses[0] == 0.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
    assert not worker.start(now - 1.0)


def test_achievements_forgive_past_deaths(make: Make) -> None:
    worker = make("sys.exit(1)")
    for now in (0.0, 1000.0, 2000.0):
        worker.start(now)
        until(worker, lambda: False, now)
    worker.achieved()
    assert worker.last_death == ""
    worker.start(3000.0)
    until(worker, lambda: False, 3000.0)
    assert worker.next_time() == 3000.0


def test_a_silent_worker_is_killed_and_counts_as_dead(make: Make) -> None:
    worker = make(READY + "time.sleep(600)", silence=30.0)
    worker.start(0.0)
    until(worker, lambda: worker.is_ready)
    assert worker.next_time() == 30.0
    _, death = worker.listen(29.0)
    assert death is None
    _, death = worker.listen(31.0)
    assert death is not None
    assert "silent for 31 s" in death.how


def test_a_start_may_take_longer_than_a_step(make: Make) -> None:
    worker = make("time.sleep(600)", silence=1.0)
    worker.start(0.0)
    assert worker.listen(LONGEST_START - 1)[1] is None
    assert worker.listen(LONGEST_START + 1)[1] is not None


def test_a_stop_that_was_asked_for_is_no_death(make: Make) -> None:
    worker = make(READY + "sys.stdin.readline()")
    worker.start(0.0)
    until(worker, lambda: worker.is_ready)
    worker.order_stop()
    end = time.monotonic() + 60
    while worker.state != "down" and time.monotonic() < end:
        assert worker.listen(0.0)[1] is None
    assert worker.deaths_in_a_row == 0


def test_a_program_that_is_not_there_is_tried_again_later(make: Make) -> None:
    worker = Worker("renderer", ["/no/such/program"], selectors.DefaultSelector(), 1.0)
    assert not worker.start(0.0)
    assert "could not be started" in worker.last_death
