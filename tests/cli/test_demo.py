"""demo: the bundled model and an example job go the whole way, and nothing stays running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Program


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A demo that has run, and what it said."""
    folder = tmp_path_factory.mktemp("demo") / "root"
    command = [sys.executable, "-m", "invokeai_daemon", "demo", str(folder)]
    return folder, subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


def test_it_ends_with_the_paths_of_the_pictures_and_what_to_try_next(
    shown: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, said = shown
    assert said.returncode == 0, said.stderr
    pictures = sorted((folder / "outputs" / "red-circle").glob("*.png"))
    assert len(pictures) == 4
    assert [path for path in map(str, pictures) if path not in said.stdout] == []
    assert "What to try next:" in said.stdout


def test_its_pictures_have_the_size_and_steps_of_the_bundled_sidecar(
    shown: tuple[Path, subprocess.CompletedProcess[str]], program: Program
) -> None:
    picture = next((shown[0] / "outputs" / "red-circle").glob("*.png"))
    job = json.loads(program("metadata", "--json", picture).stdout)["job"]
    assert (job["model"], job["width"], job["height"]) == ("demo", 64, 64)


def test_its_daemon_is_stopped_in_order(shown: tuple[Path, subprocess.CompletedProcess[str]], program: Program) -> None:
    assert program("status", "--root", shown[0]).returncode == 3
    assert "daemon.stopped" in (shown[0] / ".state" / "daemon.log").read_text()


def test_a_demo_that_is_interrupted_takes_its_daemon_along(tmp_path: Path) -> None:
    folder = tmp_path / "root"
    command = [sys.executable, "-m", "invokeai_daemon", "demo", str(folder)]
    status = folder / ".state" / "status.json"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as demo:
        try:
            deadline = time.monotonic() + 60
            while not status.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            daemon = json.loads(status.read_text())["pid"]
            demo.send_signal(signal.SIGTERM)
            assert demo.wait(60) == 130
        finally:
            demo.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(daemon, 0)
