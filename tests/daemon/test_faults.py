"""A fault of the daemon's own over one drop stays with that drop: it is said, and the others go on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.daemon import arrivals
from invokeai_daemon.daemon.intake import intake as module
from invokeai_daemon.daemon.requests import Requests
from invokeai_daemon.daemon.slices import SLICE
from invokeai_daemon.models.registry import Registry
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from tests.daemon.bench import QUIET, Bench, lora
from tests.daemon.desk import Desk


def failing(real: Any, name: str) -> Any:
    """A function that has a fault over the path of one name."""

    def function(path: Path, *rest: Any, **more: Any) -> Any:
        if Path(path).stem == name:
            raise ZeroDivisionError("on purpose")
        return real(path, *rest, **more)

    return function


@pytest.mark.parametrize("where", ["proof", "signature", "signature_of", "why_not_a_file"])
def test_a_fault_over_one_model_is_its_verdict_and_the_other_is_registered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    bad, good = (lora(bench.root.autoimport / "lora" / f"{name}.safetensors", seed) for seed, name in enumerate("ab"))
    with monkeypatch.context() as patch:
        owner = bench.intake._settler if where in ("proof", "signature") else module
        patch.setattr(owner, where, failing(getattr(owner, where), "a"))
        for path in (bad, good):
            bench.intake.look(path, True, bench.now)
        bench.settle()
        bench.settle(QUIET)
        assert bench.entry("b").status == "ok"
        entry = bench.entry("a")
        assert entry.status == "rejected"
        assert "a fault of invokeai-daemon" in entry.reason
        assert "ZeroDivisionError: on purpose" in entry.reason
        bench.until(lambda: bench.entry("b").hash)
        before = bench.root.registry_file.read_bytes()
        for _ in range(3):
            bench.scan()
            bench.settle(QUIET)
        assert bench.root.registry_file.read_bytes() == before, "it is passed over while it stays as it is"
    lora(bad, seed=7)
    bench.seal(bad)
    bench.settle(QUIET)
    assert bench.entry("a").status == "ok"


def test_an_entry_that_cannot_be_written_does_not_hold_back_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, name in enumerate("abc"):
        lora(bench.root.autoimport / "lora" / f"{name}.safetensors", seed)
    real = Registry.add_many

    def add_many(self: Registry, entries: Any) -> list[str]:
        entries = list(entries)
        if any(entry.name == "b" and entry.status == "ok" for entry in entries):
            raise ZeroDivisionError("on purpose")
        return real(self, entries)

    monkeypatch.setattr(Registry, "add_many", add_many)
    bench.scan()
    bench.settle(QUIET)
    assert [bench.entry(name).status for name in "abc"] == ["ok", "rejected", "ok"]
    assert "a fault of invokeai-daemon" in bench.entry("b").reason


def test_a_fault_over_one_request_is_told_and_the_next_is_read(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = Requests(root, Settings.model_validate({"watch": {"job_quiet_seconds": 0.0}}))
    monkeypatch.setattr(requests, "_read", failing(requests._read, "a"))
    for name in "ab":
        path = root.autoimport / f"{name}.url"
        path.write_text(f"[InternetShortcut]\nURL=https://example.com/{name}.safetensors\n")
        requests.look(path, True, 1.0)
    requests.step(1.0)
    assert [path.stem for path, _ in requests.to_do()] == ["b"]
    ((text, path),) = requests.problems()
    assert "a fault of invokeai-daemon" in text
    assert Path(path).stem == "a"


def test_a_fault_over_one_drop_of_the_inbox_leaves_it_alone_until_it_changes(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(root)
    desk.register()
    with monkeypatch.context() as patch:
        patch.setattr(arrivals, "read_drop", failing(arrivals.read_drop, "a"))
        paths = [desk.drop(f"{name}.toml", 'prompt = "a cat"\n') for name in "ab"]
        desk.tick(10.0)
        assert list(desk.board.jobs) == ["b"]
        ((text, path),) = desk.jobs.problems(desk.now)
        assert "a fault of invokeai-daemon" in text
        assert path.endswith("a.toml")
        desk.jobs.scan(desk.now)
        desk.tick(10.0)
        assert paths[0].exists()
    desk.edit(paths[0], 'prompt = "a small cat"\n')
    desk.tick(10.0)
    assert sorted(desk.board.jobs) == ["a", "b"]
    assert not list(desk.jobs.problems(desk.now))


def test_a_list_that_cannot_be_taken_apart_fails_and_is_not_met_at_every_start(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(root)
    desk.register()
    with monkeypatch.context() as patch:
        patch.setattr(desk.spool, "add", None)
        desk.drop("list.txt", "a cat\na dog\n")
        desk.tick(10.0)
    errors = [path.read_text() for path in root.state_folder("failed").iterdir()]
    assert any("a fault of invokeai-daemon" in text for text in errors), errors
    Desk(root).tick(10.0)


def test_a_scan_of_many_files_is_done_in_slices(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = Requests(root, Settings.model_validate({"watch": {"job_quiet_seconds": 0.0}}))
    for number in range(40):
        (root.autoimport / f"{number}.url").write_text(f"[InternetShortcut]\nURL=https://example.com/{number}.ckpt\n")
    real = requests._see
    monkeypatch.setattr(requests, "_see", lambda *args, **more: time.sleep(0.02) or real(*args, **more))
    took = []
    begin = requests.scan
    while begin is not None or requests.are_arriving:
        started = time.monotonic()
        (begin or requests.step)(float(len(took)))
        took.append(time.monotonic() - started)
        begin = None
        assert len(took) < 1000
    assert sum(step > SLICE * 0.5 for step in took) >= 2, "it was one long step"
    assert len(list(requests.to_do())) == 40
