"""A root, and a daemon on it in a process of its own, with the painter as its renderer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.root import STATES, Root
from tests.daemon.bench import Bench, Make

HERE = Path(__file__).parent

#: The daemon; with DIE_AT=rename:3 it is killed instead of its third call of os.rename.
PROGRAM = """
import json, os, sys
from pathlib import Path
from invokeai_daemon.daemon import logs
from invokeai_daemon.daemon.run import Programs, serve
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
logs.set_up("json")
if "DIE_AT" in os.environ:
    call, _, last = os.environ["DIE_AT"].partition(":")
    real, count = getattr(os, call), 0
    def dying(*arguments, **options):
        global count
        count += 1
        if count == int(last):
            os.kill(os.getpid(), 9)
        return real(*arguments, **options)
    setattr(os, call, dying)
path, settings, renderer, once = sys.argv[1:]
sys.exit(serve(Root(Path(path)), Settings.model_validate_json(settings), once == "once", Programs(renderer=renderer)))
"""

#: Short times, so that tests about waiting are quick.
QUICK = {
    "import": {"thumbnails": False},
    "watch": {"job_quiet_seconds": 0.3, "model_quiet_seconds": 0.5, "poll_seconds": 0.3},
    "limits": {"free_gb": 0.0},
}


def wait_until(condition: Callable[[], Any], timeout: float = 90.0, what: str = "") -> Any:
    """The first true value of a condition; fails the test when it stays false."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {timeout:.0f} s in vain{f' for {what}' if what else ''}")


class Served:
    """A root and the processes that serve it."""

    def __init__(self, root: Root, settings: dict[str, Any], renderer: str = "painter") -> None:
        self.root, self.settings, self.renderer = root, settings, renderer
        self.process: subprocess.Popen[bytes] | None = None
        self.log = root.path / "log"

    def start(
        self, *, once: bool = False, environ: dict[str, str] | None = None, ready: bool = True, log: int | None = None
    ) -> Served:
        path = os.pathsep.join([str(HERE), *([os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else [])])
        settings = json.dumps(self.settings)
        arguments = [str(self.root.path), settings, self.renderer, "once" if once else "on"]
        with self.log.open("ab") as own_log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *arguments],
                stderr=own_log if log is None else log,
                env={**os.environ, "PYTHONPATH": path, **(environ or {})},
            )
        if ready and not once:
            wait_until(lambda: self.status().get("pid") == self.process.pid, what="the daemon's status")
        return self

    def stop(self, number: int = signal.SIGTERM, timeout: float = 30.0) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = 60.0) -> int:
        assert self.process is not None
        return self.process.wait(timeout)

    def status(self) -> dict[str, Any]:
        try:
            return json.loads(self.root.status_file.read_bytes())
        except (OSError, ValueError):
            return {}

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self.log.read_text(errors="replace").splitlines()
        parsed = (json.loads(line) for line in lines if line.startswith("{"))
        return [event for event in parsed if event["event"] == name]

    def drop(self, name: str, text: str | bytes) -> Path:
        """Write elsewhere, then rename into the inbox."""
        content = text.encode() if isinstance(text, str) else text
        aside = self.root.path / f"aside-{name.replace('/', '-')}"
        aside.write_bytes(content)
        target = self.root.inbox / name
        aside.rename(target)
        return target

    def names(self, state: str) -> list[str]:
        folder = self.root.state_folder(state)
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))

    def is_in(self, state: str, name: str) -> bool:
        return name in self.names(state)

    def pictures(self, job_id: str) -> list[str]:
        folder = self.root.outputs / job_id
        return sorted(path.name for path in folder.glob("*.png")) if folder.is_dir() else []

    def register(self, name: str = "paint", more: str = "") -> None:
        """A model that the painter takes; `more` are further lines of its stanza."""
        folder = self.root.models / "sd-1" / "main" / name
        folder.mkdir(parents=True, exist_ok=True)
        stanza = f"{name}:\n  path: {folder}\n  format: diffusers\n  type: main\n  base: sd-1\n  variant: normal\n"
        stanza += more
        with self.root.registry_file.open("a") as file:
            file.write(stanza)


@pytest.fixture
def served(root: Root) -> Iterator[Served]:
    """A root with one model, not served yet; what is started on it is killed in the end."""
    served = Served(root, json.loads(json.dumps(QUICK)))
    served.register()
    yield served
    if served.process is not None and served.process.poll() is None:
        served.process.kill()
        served.process.wait()


def check_root(root: Root, job_ids: set[str]) -> None:
    """The invariants of a root at rest: every job in one place, every image once and whole, nothing left over."""
    from PIL import Image as Picture

    places = {state: set(root.state_folder(state).iterdir()) for state in STATES}
    for job_id in job_ids:
        homes = [path for state in STATES for path in places[state] if path.name.endswith(f"{job_id}.toml")]
        assert len(homes) == 1, f"{job_id} is in {homes}"
    for path in root.path.rglob(".tmp-*"):
        raise AssertionError(f"left over: {path}")
    for folder in root.outputs.iterdir():
        numbers = [path.name.split(".")[0] for path in folder.glob("*.png")]
        assert len(numbers) == len(set(numbers)), f"twice in {folder}: {numbers}"
        for path in folder.glob("*.png"):
            with Picture.open(path) as picture:
                picture.load()
                assert "invokeai_metadata" in picture.info


@pytest.fixture
def make(root: Root) -> Iterator[Make]:
    made: list[Bench] = []

    def make(*arguments: object, **settings: object) -> Bench:
        made.append(Bench(root, *arguments, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make: Make) -> Bench:
    return make()
