"""The renderer process: the protocol on its pipes, and an end in time for every way of ending."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.job.plan import Image, ModelRef, Plan
from invokeai_daemon.output.results import Results
from invokeai_daemon.settings import RenderSettings, Settings
from invokeai_daemon.workers.protocol import decode, encode

#: Starting means importing torch and diffusers, on a machine that may be busy.
START_SECONDS = 240
COMMAND = [sys.executable, "-m", "invokeai_daemon.workers.renderer"]


class Worker:
    """A renderer process and the events that it says."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.errors: list[bytes] = []
        assert self.process.stderr is not None
        threading.Thread(target=lambda: self.errors.extend(self.process.stderr or ()), daemon=True).start()

    def order(self, **message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(encode(message))
        self.process.stdin.flush()

    def until(self, kind: str) -> list[dict[str, Any]]:
        """The events up to and including the next of this kind, without beats."""
        assert self.process.stdout is not None
        heard: list[dict[str, Any]] = []
        for line in self.process.stdout:
            heard.append(decode(line))
            if heard[-1]["event"] == kind:
                break
        return heard if kind == "beat" else [event for event in heard if event["event"] != "beat"]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


def start(*extra: str) -> Worker:
    settings = Settings(render=RenderSettings(device="cpu")).model_dump(mode="json", by_alias=True)
    return Worker([*COMMAND, "--settings", json.dumps(settings), *extra])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    from tests.engine.build import build_model

    return build_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def worker() -> Iterator[Worker]:
    started = start()
    yield started
    started.close()


def order_job(worker: Worker, model: ModelRef, folder: Path, job_id: str, count: int, **values: Any) -> Plan:
    common = {"prompt": "a red circle", "negative_prompt": "", "width": 64, "height": 64, "steps": 2} | values
    images = tuple(
        Image(number, number, **common, cfg_scale=7.5, scheduler="euler_a") for number in range(1, count + 1)
    )
    plan = Plan(job_id, model, images)
    Results(folder / job_id).begin(plan)
    numbers = [each.number for each in images]
    worker.order(order="render", plan=plan.as_json(), images=numbers, folder=str(folder / job_id), alone=False)
    return plan


def test_a_renderer_takes_orders_tells_events_and_stops(worker: Worker, model: ModelRef, tmp_path: Path) -> None:
    """One process for the whole conversation, since its start costs seconds."""
    order_job(worker, model, tmp_path, "cat", 2)
    [ready] = worker.until("ready")
    assert ready == {"event": "ready", "worker": "renderer", "pid": worker.process.pid, "device": "cpu"}

    told = worker.until("published") + worker.until("published")
    assert [event["event"] for event in told if event["event"] != "step"] == ["loading", "loaded"] + 2 * ["published"]
    assert {path.name for path in (tmp_path / "cat").iterdir()} == {"job.toml", "0001.1.png", "0002.2.png"}

    worker.order(order="dance")
    beat = worker.until("beat")
    assert {event["event"] for event in beat} == {"beat"}

    order_job(worker, model, tmp_path, "endless", 50, steps=1000)
    worker.until("step")
    worker.order(order="cancel", job="endless")
    worker.until("cancelled")
    assert [path.name for path in (tmp_path / "endless").iterdir()] == ["job.toml"]

    order_job(worker, model, tmp_path, "stopped", 50, steps=1000)
    worker.until("step")
    worker.order(order="stop")
    assert worker.until("never") is not None
    assert worker.process.wait(30) == 0
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == ["job.toml"]
    assert b"unknown order 'dance'" in b"".join(worker.errors)


def test_the_end_of_the_orders_is_the_end_of_the_process(worker: Worker) -> None:
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    assert worker.process.wait(START_SECONDS) == 0


def test_an_order_that_is_no_message_ends_the_process_with_an_error(worker: Worker) -> None:
    assert worker.process.stdin is not None
    worker.process.stdin.write(b"not JSON\n")
    worker.process.stdin.flush()
    assert worker.process.wait(START_SECONDS) == 70


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux kills the children of the dead")
def test_a_renderer_dies_with_the_daemon_even_while_its_pipe_stays_open() -> None:
    """The parent here is killed while somebody else holds the pipe of the orders open."""
    script = f"""
        import subprocess, sys, time
        child = subprocess.Popen({COMMAND!r}, stdin=sys.stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(child.pid, flush=True)
        time.sleep(600)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None and parent.stdin is not None
    child = int(parent.stdout.readline())
    handle = os.pidfd_open(child)
    _wait_until_streams_are_taken_over(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert _ends(handle, START_SECONDS)
    os.close(handle)
    parent.stdin.close()
    parent.stdout.close()


def _wait_until_streams_are_taken_over(pid: int) -> None:
    """From then on the kernel knows that the process is to die with its parent."""
    deadline = time.monotonic() + START_SECONDS
    while str(Path(f"/proc/{pid}/fd/0").readlink()) != os.devnull:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _ends(handle: int, seconds: float) -> bool:
    import select

    ready, _, _ = select.select([handle], [], [], seconds)
    return bool(ready)
