"""The status file: written on change, not too often, and as a sign of life."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from invokeai_daemon.daemon.status import HEARTBEAT, SHORTEST, StatusFile, one_line, read_images_done


class Facts:
    def __init__(self) -> None:
        self.now: dict[str, Any] = {"state": "running", "images": {"done": 0, "pending": 0}, "problems": []}

    def __call__(self) -> dict[str, Any]:
        return json.loads(json.dumps(self.now)) | {"problems": list(self.now["problems"])}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes())  # type: ignore[no-any-return]


def test_a_change_is_written_soon_and_not_too_often(tmp_path: Path) -> None:
    facts, wall = Facts(), [100.0]
    status = StatusFile(tmp_path / "status.json", facts, lambda: wall[0])
    status.step(0.0)
    facts.now["images"]["done"] = 1
    status.step(SHORTEST / 2)
    assert read(tmp_path / "status.json")["images"]["done"] == 0
    status.step(SHORTEST)
    assert read(tmp_path / "status.json")["images"]["done"] == 1


def test_the_heartbeat_goes_on_while_nothing_happens(tmp_path: Path) -> None:
    wall = [100.0]
    status = StatusFile(tmp_path / "status.json", Facts(), lambda: wall[0])
    status.step(0.0)
    wall[0] = 200.0
    status.step(HEARTBEAT - 0.1)
    assert read(tmp_path / "status.json")["heartbeat"] == 100.0
    assert status.next_time() == HEARTBEAT
    status.step(HEARTBEAT)
    assert read(tmp_path / "status.json")["heartbeat"] == 200.0


def test_a_problem_keeps_the_moment_it_was_first_seen(tmp_path: Path) -> None:
    facts, wall = Facts(), [100.0]
    status = StatusFile(tmp_path / "status.json", facts, lambda: wall[0])
    facts.now["problems"] = [("the disk is full", "disk")]
    status.step(0.0)
    wall[0] = 200.0
    facts.now["problems"] = [("the disk is full", "disk"), ("odd", "inbox/x")]
    status.step(HEARTBEAT)
    assert read(tmp_path / "status.json")["problems"] == [
        {"what": "the disk is full", "where": "disk", "since": 100.0},
        {"what": "odd", "where": "inbox/x", "since": 200.0},
    ]


def test_a_disk_that_takes_no_status_stops_nobody(tmp_path: Path) -> None:
    status = StatusFile(tmp_path / "no such folder" / "status.json", Facts())
    status.step(0.0)
    status.end()


def test_the_end_says_stopped(tmp_path: Path) -> None:
    status = StatusFile(tmp_path / "status.json", Facts())
    status.end()
    assert read(tmp_path / "status.json")["state"] == "stopped"


def test_the_count_of_images_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    assert read_images_done(path) == 0
    path.write_text('{"images": {"done": 7}}')
    assert read_images_done(path) == 7
    path.write_text("[]")
    assert read_images_done(path) == 0


def test_one_line_says_what_goes_on() -> None:
    current = {"job": "cat", "image": 2, "of": 4}
    status = {"jobs": {"running": 1, "queued": 3, "failed": 0}, "current": current}
    assert one_line(status) == "job cat, image 2 of 4; 1 running, 3 queued"
    assert one_line({}) == "idle"
