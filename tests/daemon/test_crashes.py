"""kill -9 of the daemon and of its workers at any moment: nothing is lost, nothing is made twice, nobody is needed."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

import pytest

from tests.daemon.conftest import Served, check_root, wait_until
from tests.daemon.test_inputs import picture
from tests.daemon.test_run import job

JOBS, IMAGES = 10, 3
#: Those of the jobs that come with a picture.
PICTURED = ("job1", "job5", "job9")


def kill(pid: int | None) -> None:
    with suppress(ProcessLookupError):
        if pid:
            os.kill(pid, signal.SIGKILL)


def drop_with_picture(served: Served, name: str, text: str) -> None:
    """A folder of a job and the picture that it begins with."""
    aside = served.root.path / f"aside-{name}"
    aside.mkdir()
    (aside / "photo.png").write_bytes(picture((64, 64)))
    (aside / "job.toml").write_text(f'{text}[init]\nimage = "photo.png"\n')
    aside.rename(served.root.inbox / name)


@pytest.mark.parametrize("seed", range(3))
def test_ten_kills_at_random_moments_lose_nothing_and_make_nothing_twice(served: Served, seed: int) -> None:
    moments = random.Random(seed)
    names = {f"job{number}" for number in range(JOBS)}
    for name in sorted(names):
        text = job(f"slow 0.05 {name}", iterations=IMAGES)
        if name in PICTURED:
            drop_with_picture(served, name, text)
        else:
            served.drop(f"{name}.toml", text)
    served.start(ready=False)
    for _ in range(10):
        time.sleep(moments.uniform(0.0, 0.8))
        if moments.random() < 0.5:
            kill(served.status().get("renderer", {}).get("pid"))
        else:
            served.stop(signal.SIGKILL)
            served.start(ready=False)
    wait_until(lambda: len(served.names("done")) == JOBS, what="all jobs to be done")
    wait_until(lambda: served.status().get("pid") == served.process.pid, what="the last daemon")  # type: ignore[union-attr]
    assert served.stop() == 0
    assert {name: len(served.pictures(name)) for name in names} == dict.fromkeys(names, IMAGES)
    assert served.names("failed") == []
    for name in PICTURED:
        assert (served.root.outputs / name / "inputs/1-photo.png").read_bytes() == picture((64, 64))
    check_root(served.root, names)


def test_a_job_that_takes_the_daemon_down_every_time_is_given_up_and_others_are_made(served: Served) -> None:
    """The daemon dies whenever the image begins, as if the machine lost its power."""
    served.settings["limits"]["attempts"] = 1
    served.drop("bad.toml", job("slow 600", priority=5))
    served.drop("good.toml", job("a cat"))
    for _ in range(2):
        served.start()
        wait_until(lambda: (served.status().get("current") or {}).get("job") == "bad")
        served.stop(signal.SIGKILL)
        served.root.status_file.unlink()
    served.start()
    wait_until(lambda: served.is_in("failed", "bad.toml") and served.is_in("done", "good.toml"))
    error = (served.root.state_folder("failed") / "bad.error.txt").read_text()
    assert "all of its 1 tries" in error
    assert "the daemon or the machine stopped" in error


@pytest.mark.parametrize("call", ["rename", "fsync", "link", "unlink", "mkdir", "replace"])
def test_a_crash_at_any_step_on_the_disk_is_recovered_from(served: Served, call: str) -> None:
    """The daemon kills itself at the n-th system call of a kind, n = 1, 2, 3, …, until a run is completed."""
    served.drop("cat.toml", job("a cat", iterations=2))
    served.drop("list.txt", "a dog -W64 -H64 -s2\na cow -W64 -H64 -s2\n")
    names = {"cat", "list-0001", "list-0002"}
    for count in range(1, 60, 3):
        served.start(once=True, environ={"DIE_AT": f"{call}:{count}"})
        if served.wait() == 0:
            break
    else:
        raise AssertionError("the work was never completed")
    assert {name: len(served.pictures(name)) for name in names} == {"cat": 2, "list-0001": 1, "list-0002": 1}
    check_root(served.root, names)
