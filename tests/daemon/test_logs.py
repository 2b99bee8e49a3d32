"""One line per event, whatever is in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from invokeai_daemon.daemon import logs
from invokeai_daemon.daemon.logs import events


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], logging.raiseExceptions = before[0], before[2]
    root.setLevel(before[1])


HOSTILE = "a\nb \x1b[31m\u202e\udcff.toml"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_hostile_names_stay_on_one_line(log_format: str) -> None:
    stream = io.StringIO()
    logs.set_up(log_format, stream)
    events.info("drop.left_alone", path=HOSTILE)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text[:-1].isprintable()


def test_json_lines_carry_the_facts() -> None:
    stream = io.StringIO()
    logs.set_up("json", stream)
    events.warning("job.failed", job="cat", problems=2)
    entry = json.loads(stream.getvalue())
    assert (entry["event"], entry["level"], entry["job"], entry["problems"]) == ("job.failed", "warning", "cat", 2)


def test_text_lines_read_well() -> None:
    stream = io.StringIO()
    logs.set_up("text", stream)
    events.info("job.done", job="cat", images=4, note="two words")
    assert stream.getvalue().rstrip().endswith('info    job.done job=cat images=4 note="two words"')


def test_the_journal_gets_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1234")
    stream = io.StringIO()
    logs.set_up("text", stream)
    events.error("worker.died", worker="renderer")
    assert stream.getvalue() == "<3>worker.died worker=renderer\n"


def test_a_full_log_does_not_stop_the_daemon() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    logs.set_up("text", Full())
    events.info("job.done", job="cat")
