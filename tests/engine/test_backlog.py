"""The backlog: priority, then arrival; what fits is brought forward, but not past everything and not for ever."""

from __future__ import annotations

from pathlib import Path

from invokeai_daemon.engine import backlog
from invokeai_daemon.engine.backlog import Backlog, Ticket, Work
from invokeai_daemon.job.plan import ModelRef, Plan
from tests.engine.build import image


def ticket(job_id: str, priority: int = 0, model: str = "one", count: int = 1, **values: object) -> Ticket:
    images = tuple(image(number, **values) for number in range(1, count + 1))
    return Ticket(Plan(job_id, ModelRef(model, f"/models/{model}", "sd-1"), images, priority), Path("outputs") / job_id)


def backlog_of(*tickets: Ticket, alone: bool = False) -> Backlog:
    made = Backlog()
    for each in tickets:
        made.add(each, each.plan.images, alone)
    return made


def never(work: Work) -> bool:
    return False


def jobs_taken(waiting: Backlog, running: Work | None = None, loaded: str = "") -> list[str]:
    """The jobs in the order in which they are taken; the first taken leads the others."""
    taken: list[str] = []
    while (work := waiting.take(running, lambda each: each.ticket.plan.model.name == loaded)) is not None:
        taken.append(work.ticket.plan.job_id)
        running = running or work
    return taken


def test_an_empty_backlog_gives_nothing() -> None:
    assert Backlog().take(None, never) is None


def test_the_more_urgent_come_first_then_the_earlier() -> None:
    waiting = backlog_of(ticket("late"), ticket("urgent", priority=5), ticket("later"), ticket("idle", priority=-1))
    order = [waiting.take(None, never) for _ in range(4)]
    assert [work.ticket.plan.job_id for work in order if work] == ["urgent", "late", "later", "idle"]


def test_images_of_one_size_and_model_join() -> None:
    waiting = backlog_of(ticket("a", count=2), ticket("b"), ticket("wide", width=128), ticket("c", prompt="else"))
    assert jobs_taken(waiting) == ["a", "a", "b", "c"]
    assert len(waiting) == 1


def test_the_loaded_model_is_preferred() -> None:
    waiting = backlog_of(ticket("a", model="one"), ticket("b", model="two"))
    assert jobs_taken(waiting, loaded="two") == ["b"]


def test_the_loaded_model_is_not_preferred_past_a_more_urgent_job() -> None:
    waiting = backlog_of(ticket("urgent", model="one", priority=1), ticket("b", model="two"))
    assert jobs_taken(waiting, loaded="two") == ["urgent"]


def test_an_image_is_passed_only_so_often() -> None:
    first = ticket("passed", model="two")
    waiting = backlog_of(first, ticket("many", model="one", count=2 * backlog.PATIENCE))
    assert jobs_taken(waiting, loaded="one") == ["many"] * backlog.PATIENCE
    assert jobs_taken(waiting, loaded="one") == ["passed"]


def test_an_image_too_far_behind_is_not_brought_forward() -> None:
    waiting = backlog_of(ticket("first", model="two", count=backlog.REACH), ticket("far", model="one"))
    assert jobs_taken(waiting, loaded="one")[0] == "first"


def test_a_more_urgent_image_of_the_same_model_interrupts() -> None:
    running = Work(ticket("slow", width=512), image(width=512), alone=False, arrival=0)
    assert jobs_taken(backlog_of(ticket("urgent", priority=1)), running) == ["urgent"]


def test_a_more_urgent_image_of_another_model_waits_for_the_lanes_to_end_and_nobody_joins_meanwhile() -> None:
    running = Work(ticket("slow"), image(), alone=False, arrival=0)
    waiting = backlog_of(ticket("urgent", priority=1, model="two"), ticket("joining"))
    assert jobs_taken(waiting, running) == []
    assert jobs_taken(waiting) == ["urgent"]


def test_a_suspect_shares_with_nobody() -> None:
    waiting = backlog_of(ticket("suspects", count=2), alone=True)
    assert len(jobs_taken(waiting)) == 1
    running = Work(ticket("running"), image(), alone=False, arrival=0)
    assert jobs_taken(waiting, running) == []


def test_cancelled_images_leave() -> None:
    cancelled, kept = ticket("cancelled", count=3), ticket("kept")
    waiting = backlog_of(cancelled, kept)
    cancelled.is_cancelled = True
    waiting.drop_cancelled()
    assert jobs_taken(waiting) == ["kept"]
