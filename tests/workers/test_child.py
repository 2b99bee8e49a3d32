"""A worker is spoken to without waiting for it, whatever it does."""

from __future__ import annotations

import os
import selectors
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invokeai_daemon.workers.child import Child
from invokeai_daemon.workers.protocol import MAX_LINE, Message

Start = Callable[[str], Child]


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as selector:
        yield selector


@pytest.fixture
def start(selector: selectors.BaseSelector) -> Iterator[Start]:
    children: list[Child] = []

    def start(program: str) -> Child:
        children.append(Child([sys.executable, "-S", "-c", "import os, sys, time\n" + program], selector))
        return children[-1]

    yield start
    for child in children:
        child.end()


def hear(child: Child, selector: selectors.BaseSelector, count: int = 1, timeout: float = 60.0) -> list[Message]:
    """Pump until so many events came, or the worker is gone."""
    heard: list[Message] = []
    end = time.monotonic() + timeout
    while len(heard) < count and time.monotonic() < end:
        selector.select(0.1)
        heard += child.pump()
        if child.is_gone:
            return heard + child.pump()
    return heard


def test_orders_go_down_and_events_come_up(start: Start, selector: selectors.BaseSelector) -> None:
    child = start("for line in sys.stdin:\n  sys.stdout.write(line.replace('order', 'event', 1)); sys.stdout.flush()")
    child.send({"order": "render", "prompt": "größer 🎨"})
    assert hear(child, selector) == [{"event": "render", "prompt": "größer 🎨"}]


def test_an_event_in_pieces_is_one_event(start: Start, selector: selectors.BaseSelector) -> None:
    child = start("os.write(1, b'{\"event\": '); time.sleep(0.2); os.write(1, b'\"ready\"}\\n'); sys.stdin.read()")
    assert hear(child, selector) == [{"event": "ready"}]


def test_a_worker_that_reads_nothing_blocks_nobody(start: Start, selector: selectors.BaseSelector) -> None:
    child = start("time.sleep(60)")
    begin = time.monotonic()
    for _ in range(20):
        child.send({"order": "render", "plan": "x" * 100_000})
    assert time.monotonic() - begin < 10
    assert not child.is_gone


def test_unread_orders_are_read_later_all_of_them(start: Start, selector: selectors.BaseSelector) -> None:
    child = start(
        "time.sleep(0.3)\nfor n, line in enumerate(sys.stdin, 1):\n"
        '  if n == 50: os.write(1, b\'{"event": "all", "bytes": %d}\\n\' % len(line))'
    )
    for _ in range(50):
        child.send({"order": "render", "plan": "x" * 50_000})
    (event,) = hear(child, selector)
    assert event["bytes"] > 50_000


@pytest.mark.parametrize("line", [b"hello\n", b"[1, 2]\n", b'{"neither": 1}\n', b"\xff\xfe\n", b'{"event": 1}{\n'])
def test_a_worker_that_breaks_the_protocol_is_not_trusted(
    start: Start, selector: selectors.BaseSelector, line: bytes
) -> None:
    child = start(f"os.write(1, {line!r}); time.sleep(60)")
    hear(child, selector)
    assert child.is_gone
    assert "broke the protocol" in child.end()


def test_a_line_without_end_is_cut_off(start: Start, selector: selectors.BaseSelector) -> None:
    child = start(f"sys.stdout.buffer.write(b'x' * {MAX_LINE + 100_000}); sys.stdout.flush(); time.sleep(60)")
    hear(child, selector)
    assert "more than" in child.end()


def test_last_words_tell_why_a_worker_ended(start: Start, selector: selectors.BaseSelector) -> None:
    child = start("sys.stderr.write('loading\\nout of luck\\n'); sys.exit(3)")
    hear(child, selector)
    assert child.end() == "exited with code 3"
    assert child.last_words == "loading\nout of luck"


def test_events_just_before_the_end_are_heard(start: Start, selector: selectors.BaseSelector) -> None:
    child = start('os.write(1, b\'{"event": "published"}\\n\'); os.kill(os.getpid(), 9)')
    assert hear(child, selector, count=2) == [{"event": "published"}]
    assert "SIGKILL" in child.end(patience=60.0)


def test_a_worker_that_ignores_everything_is_killed(start: Start, selector: selectors.BaseSelector) -> None:
    child = start("import signal; signal.signal(15, signal.SIG_IGN); os.write(1, b'{\"event\": 1}\\n'); time.sleep(60)")
    hear(child, selector)
    assert child.end(patience=0.1) == "ended by the daemon"
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_a_worker_that_closes_its_output_is_gone(start: Start, selector: selectors.BaseSelector) -> None:
    child = start("os.close(1); time.sleep(60)")
    hear(child, selector)
    assert child.is_gone


def test_orders_to_a_dead_worker_do_no_harm(start: Start, selector: selectors.BaseSelector) -> None:
    child = start("pass")
    hear(child, selector)
    child.send({"order": "stop"})
    assert child.pump() == []


def test_the_end_of_its_orders_ends_a_worker(start: Start, selector: selectors.BaseSelector) -> None:
    child = start("sys.stdin.read()")
    child.close_orders()
    assert child.end(patience=60.0) == "exited with code 0"


def test_no_descriptor_is_left_behind(start: Start, selector: selectors.BaseSelector) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    child = start("pass")
    hear(child, selector)
    child.end()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not selector.get_map()
