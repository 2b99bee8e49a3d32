"""status: right about a daemon that is not there, light, and quick however much was done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.cli import screen, snapshot
from invokeai_daemon.root import Root
from tests.conftest import Program

HEAVY = ("torch", "numpy", "PIL", "pydantic", "diffusers", "rich", "click", "yaml", "ruamel")


def write_status(root: Root, **changed: Any) -> dict[str, Any]:
    status = {
        "state": "running",
        "pid": os.getpid(),
        "heartbeat": time.time(),
        "jobs": {},
        "images": {"done": 2, "pending": 10},
        "current": {"job": "cat", "image": 3, "of": 12, "step": 18, "steps": 30, "eta_s": 19.4},
        "models": {"ok": 3, "importing": 1},
        "watch": [{"path": "inbox", "mode": "inotify", "last_scan": time.time()}],
        "device": "cpu",
        "problems": [],
    } | changed
    root.status_file.write_text(json.dumps(status))
    return status


@pytest.fixture
def stand_in() -> Iterator[int]:
    """The pid of a living process that is called like the daemon."""
    command = [sys.executable, "-c", "input()", "invokeai-daemon"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def test_downloads_are_shown_with_their_pace(program: Program, root: Root, stand_in: int) -> None:
    running = {"source": "me/dog", "request": "x.url", "state": "running", "done": 1_200_000_000, "of": 4_270_000_000}
    write_status(
        root,
        pid=stand_in,
        downloads=[running | {"bytes_per_second": 8_100_000, "eta_s": 379}, {"source": "me/cat", "state": "queued"}],
    )
    shown = program("status").stdout
    assert "download  me/dog: 1.2 GB of 4.3 GB, 8.1 MB/s, about 6 min left\n" in shown
    assert "1 to come\n" in shown


def test_a_root_where_no_daemon_ever_ran_is_stopped(program: Program) -> None:
    told = program("status")
    assert told.returncode == 3
    assert told.stdout.startswith("stopped   not running")
    assert "invokeai-daemon run --root" in told.stdout


def test_the_last_words_of_a_dead_daemon_are_called_stale(program: Program, root: Root) -> None:
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    heartbeat = time.time() - 60
    write_status(root, pid=int(process.stdout), heartbeat=heartbeat)
    told = program("status")
    assert told.returncode == 3
    assert f"stale since {screen.clock(heartbeat)}" in told.stdout
    assert "cat" not in told.stdout


def test_another_process_that_got_the_number_of_a_dead_daemon_is_not_taken_for_it(root: Root) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        write_status(root, pid=other.pid)
        taken = snapshot.take(root, time.time())
        other.kill()
    assert taken["state"] == "stopped"


def test_the_first_line_says_what_a_living_daemon_does(program: Program, root: Root, stand_in: int) -> None:
    write_status(root, pid=stand_in)
    told = program("status")
    assert told.returncode == 0
    first = told.stdout.splitlines()[0]
    assert first == "running   job cat, image 3 of 12, step 18 of 30, about 19 s left"
    assert "10 images to do" in told.stdout
    assert "3 ok, 1 importing" in told.stdout
    assert "inbox inotify" in told.stdout


def test_a_daemon_that_does_not_answer_is_degraded(program: Program, root: Root, stand_in: int) -> None:
    write_status(root, pid=stand_in, heartbeat=time.time() - 100)
    told = program("status")
    assert told.returncode == 1
    assert "has not answered for 10" in told.stdout


def test_what_needs_the_user_is_said_with_its_reason(program: Program, root: Root) -> None:
    folder = root.state_folder("failed")
    for name in ("bad", "worse"):
        (folder / f"{name}.toml").write_text("")
        (folder / f"{name}.error.txt").write_text(
            f"{name}.toml was not run: 1 problem.\n\n  line 3: steps: 0 is too few.\n\nCorrect this.\n"
        )
    (root.state_folder("waiting") / "later.toml").write_text("")
    (root.state_folder("waiting") / "later.why.txt").write_text('No model is called "foo".\n')
    (root.inbox / "PAUSE").touch()
    told = program("status").stdout
    assert "failed    " in told
    assert "bad: bad.toml was not run: 1 problem. line 3: steps: 0 is too few.\n" in told
    assert 'waiting   later: No model is called "foo".' in told
    assert "paused" in told


def test_json_has_the_keys_that_scripts_rely_on(program: Program, root: Root) -> None:
    (root.inbox / "new.toml").write_text("")
    (root.inbox / ".tmp-unfinished.toml").write_text("")
    (root.state_folder("queued") / "1000-00000001-a.toml").write_text("")
    status = json.loads(program("status", "--json").stdout)
    keys = ["state", "pid", "heartbeat", "jobs", "images", "current", "models", "watch", "device", "problems"]
    assert [key for key in keys if key not in status] == []
    assert status["jobs"] == {"new": 1, "queued": 1, "waiting": 0, "running": 0, "done": 0, "failed": 0}


def test_a_status_file_that_is_damaged_does_not_stop_the_answer(program: Program, root: Root) -> None:
    root.status_file.write_text('{"state": "runn')
    told = program("status")
    assert told.returncode == 3
    assert told.stderr == ""


def test_one_job_is_shown_with_its_reason_and_its_pictures(program: Program, root: Root) -> None:
    (root.state_folder("failed") / "bad.toml").write_text("")
    (root.state_folder("failed") / "bad.error.txt").write_text("one\ntwo\n")
    (root.outputs / "bad").mkdir()
    (root.outputs / "bad" / "0001.7.png").write_bytes(b"")
    (root.outputs / "bad" / ".tmp-1-0002.8.png").write_bytes(b"")
    told = program("status", "bad")
    assert told.returncode == 1
    assert told.stdout.splitlines()[0] == "failed    bad"
    assert "two" in told.stdout
    assert str(root.outputs / "bad" / "0001.7.png") in told.stdout
    assert "0002" not in told.stdout


def test_a_job_that_is_not_there_is_an_error(program: Program) -> None:
    told = program("status", "nobody")
    assert told.returncode == 1
    assert "nobody" in told.stdout


def test_watching_a_job_ends_with_the_job(program: Program, root: Root) -> None:
    (root.state_folder("done") / "cat.toml").write_text("")
    told = program("status", "--watch", "cat", timeout=20)
    assert told.returncode == 0
    assert "done      cat" in told.stdout


def test_the_options_may_follow_the_group_too(program: Program, root: Root) -> None:
    """click's own way to the command: `python -m invokeai_daemon --help` lists it, so it must work from there."""
    script = (
        "import sys; from invokeai_daemon.cli.commands import cli; sys.exit(cli(['status'], standalone_mode=False))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "INVOKEAI_DAEMON_ROOT": str(root.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 3
    assert told.stdout.startswith("stopped")


def test_it_imports_nothing_heavy(root: Root) -> None:
    script = (
        "import sys; from invokeai_daemon.cli.main import run; run(['status', '--root', sys.argv[1]]); "
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", script, str(root.path)], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"


def test_it_answers_within_150_ms_with_ten_thousand_jobs_done_and_a_thousand_queued(root: Root) -> None:
    fill(root.state_folder("done"), (f"job-{number}.toml" for number in range(10_000)))
    fill(root.state_folder("queued"), (f"1000-{number:08}-job-{number}.toml" for number in range(1_000)))
    seconds = min(processor_seconds(["status", "--root", str(root.path)]) for _ in range(5))
    assert seconds <= 0.150


def processor_seconds(arguments: list[str]) -> float:
    """What a run of the program costs. Nothing in `status` waits, so on an idle machine it is the time that passes;
    unlike that, it hardly depends on what else the machine does."""
    process = subprocess.Popen([sys.executable, "-m", "invokeai_daemon", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert "1000 queued, 10000 done" in process.stdout.read()
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    return usage.ru_utime + usage.ru_stime


def fill(folder: Path, names: Iterator[str]) -> None:
    for name in names:
        os.close(os.open(folder / name, os.O_CREAT))


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (51 * 60, "51 min"), (7500, "2 h 5 min")]
)
def test_durations_are_said_in_words_of_their_size(seconds: float, words: str) -> None:
    assert screen.duration(seconds) == words


def test_colours_are_for_terminals_only() -> None:
    line = screen.Line("running", "idle", screen.GREEN)
    assert screen.paint([line], colours=False) == "running   idle"
    assert screen.paint([line], colours=True) == "\x1b[32mrunning  \x1b[0m idle"


def test_names_of_files_cannot_act_on_the_terminal() -> None:
    line = screen.Line("problem", "a\x1b[2Jb\u202e\udcff: is broken")
    assert screen.paint([line], colours=False) == "problem   a\\x1b[2Jb\\u202e\\udcff: is broken"
