"""Stages: things in order, several at once where they fit, and an end that can be waited for."""

from __future__ import annotations

import threading
import weakref

from invokeai_daemon.engine.stages import Stage


class Held:
    """A handler that records what it gets and can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_go = threading.Event()
        self.has_begun = threading.Event()

    def __call__(self, things: list[str]) -> None:
        self.has_begun.set()
        assert self.may_go.wait(10)
        self.batches.append(things)


def held_stage() -> tuple[Stage[str], Held]:
    held = Held()
    stage = Stage("test", held, group=lambda word: word[0], limit=lambda word: 2)
    stage.put("first")
    assert held.has_begun.wait(10)
    return stage, held


def test_things_that_fit_are_handled_together_in_order() -> None:
    stage, held = held_stage()
    for word in ("a1", "a2", "a3", "b1", "a4"):
        stage.put(word)
    held.may_go.set()
    assert stage.drain(10)
    assert held.batches == [["first"], ["a1", "a2"], ["a3"], ["b1"], ["a4"]]


def test_putting_does_not_wait_for_the_handler() -> None:
    stage, held = held_stage()
    stage.put("second")
    assert held.batches == []
    held.may_go.set()


def test_draining_gives_up_in_time() -> None:
    stage, held = held_stage()
    assert not stage.drain(0.01)
    held.may_go.set()
    assert stage.drain(10)


def test_what_is_done_is_let_go() -> None:
    class Thing:
        pass

    stage: Stage[Thing] = Stage("test", lambda things: None)
    thing = Thing()
    gone = weakref.ref(thing)
    stage.put(thing)
    del thing
    assert stage.drain(10)
    assert gone() is None
