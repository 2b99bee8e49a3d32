"""The daemon as a process: from a drop to pictures, what it survives, how it starts and stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from invokeai_daemon.root import Root
from tests.daemon.conftest import Served, check_root, wait_until

JOB = 'prompt = "a cat"\nwidth = 64\nheight = 64\nsteps = 2\n'


def job(prompt: str, **more: object) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in {"prompt": prompt, **more}.items()]
    return "\n".join([*lines, "width = 64", "height = 64", "steps = 2", ""])


def test_a_dropped_job_becomes_pictures(served: Served) -> None:
    served.start()
    served.drop("cat.toml", job("a cat", iterations=3, seed=5))
    wait_until(lambda: served.is_in("done", "cat.toml"))
    assert served.pictures("cat") == ["0001.5.png", "0002.6.png", "0003.7.png"]
    status = wait_until(lambda: served.status() if served.status()["images"]["done"] == 3 else None)
    assert status["jobs"]["done"] == 1
    assert status["state"] == "running"
    assert status["device"] == "cpu float32"
    check_root(served.root, {"cat"})


def test_what_is_there_at_the_start_is_worked_off_and_once_ends(served: Served) -> None:
    for number in range(5):
        served.drop(f"job{number}.toml", job(f"number {number}"))
    served.drop("bad.toml", "x = 1")
    served.drop("later.toml", job("x", model="not here"))
    assert served.start(once=True).wait() == 0
    assert served.names("done") == [f"job{number}.toml" for number in range(5)]
    assert served.names("failed") == ["bad.error.txt", "bad.toml"]
    assert served.names("waiting") == ["later.toml", "later.why.txt"]
    assert served.status()["state"] == "stopped"
    check_root(served.root, {f"job{number}" for number in range(5)})


def test_once_without_work_ends_without_a_renderer(served: Served) -> None:
    assert served.start(once=True).wait() == 0
    assert not served.events("worker.started")


def test_the_daemon_is_small_and_never_maps_torch(served: Served) -> None:
    served.start()
    served.drop("cat.toml", job("a cat"))
    wait_until(lambda: served.is_in("done", "cat.toml"))
    assert served.process is not None
    memory = Path(f"/proc/{served.process.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in memory.splitlines() if line.startswith("VmRSS"))
    assert resident < 80 * 1024
    assert "torch" not in Path(f"/proc/{served.process.pid}/maps").read_text()


def test_a_second_daemon_is_refused_with_75(served: Served) -> None:
    served.start()
    second = Served(served.root, served.settings)
    assert second.start(ready=False).wait() == 75
    assert f"process {served.process.pid}" in served.log.read_text()  # type: ignore[union-attr]
    served.drop("cat.toml", JOB)
    wait_until(lambda: served.is_in("done", "cat.toml"))


@pytest.mark.parametrize("settings", [{"defaults": {"stepz": 3}}, {"output": {"file_name": "{sed}.png"}}])
def test_unusable_settings_end_with_78(served: Served, settings: dict[str, object]) -> None:
    served.settings.update(settings)
    assert served.start(ready=False).wait() == 78


def test_a_root_whose_folder_is_a_file_ends_with_78(served: Served) -> None:
    served.root.outputs.rmdir()
    served.root.outputs.write_text("in the way")
    assert served.start(ready=False).wait() == 78


# Workers that misbehave


@pytest.mark.parametrize("trouble", ["die once", "garble"])
def test_a_renderer_that_dies_or_babbles_costs_one_try_and_no_picture(served: Served, trouble: str) -> None:
    served.start()
    served.drop("bad.toml", job(trouble, iterations=3))
    served.drop("good.toml", job("a cat", iterations=3))
    wait_until(lambda: served.names("done") == ["bad.toml", "good.toml"])
    assert len(served.pictures("bad")) == 3
    assert len(served.events("worker.died")) == 1
    check_root(served.root, {"bad", "good"})


def test_an_image_that_kills_every_renderer_fails_and_all_others_are_made(served: Served) -> None:
    served.drop("bad.toml", job("die", iterations=1))
    served.drop("good.toml", job("a cat", iterations=4))
    served.start()
    wait_until(lambda: served.is_in("failed", "bad.toml") and served.is_in("done", "good.toml"))
    error = (served.root.state_folder("failed") / "bad.error.txt").read_text()
    assert "killed by SIGSEGV" in error
    assert "about to die" in error
    assert "all of its 3 tries are used up" in error
    assert len(served.pictures("good")) == 4
    assert len(served.events("worker.died")) == 3


def test_a_silent_renderer_is_replaced(served: Served) -> None:
    served.settings["limits"]["step_seconds"] = 3.0
    served.settings["limits"]["attempts"] = 1
    served.start()
    served.drop("bad.toml", job("hang"))
    wait_until(lambda: served.is_in("failed", "bad.toml"))
    assert "silent for" in (served.root.state_folder("failed") / "bad.error.txt").read_text()
    served.drop("good.toml", JOB)
    wait_until(lambda: served.is_in("done", "good.toml"))


def test_an_image_that_fails_does_not_stop_the_others(served: Served) -> None:
    served.start()
    served.drop("bad.toml", job("fail"))
    served.drop("good.toml", JOB)
    wait_until(lambda: served.is_in("failed", "bad.toml") and served.is_in("done", "good.toml"))
    assert "it looked wrong" in (served.root.state_folder("failed") / "bad.error.txt").read_text()


def test_a_renderer_that_cannot_start_degrades_the_status_and_keeps_the_jobs(served: Served) -> None:
    served.renderer = "no_such_module"
    served.start()
    served.drop("cat.toml", JOB)
    status = wait_until(lambda: served.status() if served.status()["state"] == "degraded" else None)
    assert any("No module named" in problem["what"] for problem in status["problems"])
    assert status["jobs"]["queued"] == 1


def test_a_full_disk_makes_a_job_wait_and_room_lets_it_go_on(served: Served) -> None:
    outputs = str(served.root.outputs)
    mounting = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", outputs]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs privileges")
    try:
        served.start()
        served.drop("slow.toml", job("slow 0.1", iterations=20))
        wait_until(lambda: served.pictures("slow"))
        ballast = served.root.outputs / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        wait_until(lambda: served.is_in("waiting", "slow.toml"))
        status = wait_until(lambda: served.status() if served.status()["state"] == "degraded" else None)
        assert any(problem["where"] == "disk" for problem in status["problems"])
        ballast.unlink()
        wait_until(lambda: served.is_in("done", "slow.toml"))
        assert len(served.pictures("slow")) == 20
        assert served.stop() == 0
        check_root(served.root, {"slow"})
    finally:
        subprocess.run(["umount", "-l", outputs], check=True)


# What users do meanwhile


def test_deleting_a_running_job_cancels_it(served: Served) -> None:
    served.start()
    served.drop("slow.toml", job("slow 0.5", iterations=50))
    wait_until(lambda: served.pictures("slow"))
    (served.root.state_folder("running") / "slow.toml").unlink()
    result = wait_until((served.root.outputs / "slow" / "result.json").exists)
    assert result
    served.drop("cat.toml", JOB)
    wait_until(lambda: served.is_in("done", "cat.toml"))
    assert len(served.pictures("slow")) < 50
    wait_until(lambda: served.names("running") == [])


def test_a_model_that_appears_in_the_registry_starts_the_jobs_that_wait_for_it(served: Served) -> None:
    served.start()
    served.drop("cat.toml", job("a cat", model="late"))
    wait_until(lambda: served.is_in("waiting", "cat.toml"))
    served.register("late")
    wait_until(lambda: served.is_in("done", "cat.toml"))
    wait_until(lambda: served.names("waiting") == [])


def test_pause_and_resume(served: Served) -> None:
    served.start()
    (served.root.inbox / "PAUSE").touch()
    served.drop("cat.toml", JOB)
    wait_until(lambda: any("cat" in name for name in served.names("queued")))
    (served.root.inbox / "PAUSE").unlink()
    wait_until(lambda: served.is_in("done", "cat.toml"))


def test_a_polled_inbox_works_and_the_status_says_so(served: Served) -> None:
    served.settings["watch"]["force_polling"] = True
    served.start()
    assert {watch["mode"] for watch in served.status()["watch"]} == {"poll"}
    served.drop("cat.toml", JOB)
    wait_until(lambda: served.is_in("done", "cat.toml"))


def test_a_replaced_inbox_is_noticed(served: Served) -> None:
    served.start()
    aside = served.root.path / "old-inbox"
    served.root.inbox.rename(aside)
    served.root.make()
    served.drop("cat.toml", JOB)
    wait_until(lambda: served.is_in("done", "cat.toml"))


def test_the_hook_is_told_about_ends(served: Served, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ncat >> {heard}\necho >> {heard}\n")
    hook.chmod(0o755)
    served.settings["notify"] = {"hook": str(hook)}
    served.start()
    served.drop("good.toml", JOB)
    served.drop("bad.toml", "x = 1")
    wait_until(lambda: heard.exists() and heard.read_text().count("\n") >= 2)
    told = {json.loads(line)["event"] for line in heard.read_text().splitlines() if line}
    assert told == {"job_done", "job_failed"}


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_quick_and_loses_nothing(served: Served, number: int) -> None:
    served.start()
    served.drop("slow.toml", job("slow 0.3", iterations=8))
    wait_until(lambda: served.pictures("slow"))
    assert served.stop(number) == 0
    assert served.status()["state"] == "stopped"
    made = len(served.pictures("slow"))
    assert 0 < made < 8
    assert served.names("running")[0] == "slow.toml"
    assert served.start(once=True).wait() == 0
    assert len(served.pictures("slow")) == 8
    assert not served.events("image.failed")
    check_root(served.root, {"slow"})


def test_a_stop_spends_no_attempt(served: Served) -> None:
    served.settings["limits"]["attempts"] = 1
    served.start()
    served.drop("slow.toml", job("slow 0.2", iterations=6))
    wait_until(lambda: served.pictures("slow"))
    assert served.stop() == 0
    assert served.start(once=True).wait() == 0
    assert served.names("done") == ["slow.toml"]


def test_a_second_signal_stops_faster(served: Served) -> None:
    served.start()
    served.drop("slow.toml", job("slow 600"))
    wait_until(lambda: (served.status().get("current") or {}).get("job") == "slow")
    assert served.process is not None
    begin = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    wait_until(lambda: served.events("daemon.stopping"))
    assert served.stop(signal.SIGTERM) == 0
    assert time.monotonic() - begin < 15


def test_workers_do_not_outlive_a_killed_daemon(served: Served) -> None:
    served.start()
    pid = wait_until(lambda: served.status().get("renderer", {}).get("pid"))
    served.drop("slow.toml", job("slow 600"))
    wait_until(lambda: (served.status().get("current") or {}).get("job") == "slow")
    served.stop(signal.SIGKILL)
    wait_until(lambda: not _runs(pid), timeout=20)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_hangup_scans_again(served: Served) -> None:
    served.settings["watch"].update({"rescan_seconds": 3600.0})
    served.start()
    before = served.status()["watch"][1]["last_scan"]
    assert served.process is not None
    served.process.send_signal(signal.SIGHUP)
    wait_until(lambda: served.status()["watch"][1]["last_scan"] > before)


def test_a_closed_log_stops_nobody(served: Served) -> None:
    read, write = os.pipe()
    served.start(log=write)
    os.close(write)
    os.close(read)
    served.drop("cat.toml", JOB)
    served.drop("bad.toml", "x = 1")
    wait_until(lambda: served.is_in("done", "cat.toml") and served.is_in("failed", "bad.toml"))
    assert served.stop() == 0


# The service manager


def test_the_service_manager_hears_ready_status_signs_of_life_and_the_stop(served: Served, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        served.drop("cat.toml", JOB)
        served.start(environ={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}, ready=False)
        heard = [manager.recv(4096).decode()]
        assert heard == ["READY=1"]
        assert served.status()["jobs"]["new"] == 1, "ready comes after the first scan"
        while not any(message == "STATUS=idle" for message in heard) or heard.count("WATCHDOG=1") < 3:
            heard.append(manager.recv(4096).decode())
        assert served.stop() == 0
        manager.settimeout(0.2)
        while heard[-1] != "STOPPING=1":
            heard.append(manager.recv(4096).decode())


def test_no_sign_of_life_while_the_loop_hangs(served: Served, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        served.start(environ={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"})
        while manager.recv(4096) != b"WATCHDOG=1":
            pass
        assert served.process is not None
        served.process.send_signal(signal.SIGSTOP)
        manager.settimeout(1.0)
        with pytest.raises(TimeoutError):
            for _ in range(100):
                manager.recv(4096)
        served.process.send_signal(signal.SIGCONT)
        manager.settimeout(60)
        while manager.recv(4096) != b"WATCHDOG=1":
            pass


def test_a_flood_while_the_daemon_sleeps_is_found_by_a_scan(served: Served) -> None:
    served.settings["watch"].update({"rescan_seconds": 3600.0})
    (served.root.inbox / "PAUSE").touch()
    served.start()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    assert served.process is not None
    served.process.send_signal(signal.SIGSTOP)
    noise = served.root.inbox / ".noise"
    for _ in range(limit // 2 + 100):
        noise.touch()
        noise.unlink()
    for number in range(20):
        served.drop(f"job{number}.toml", JOB)
    served.process.send_signal(signal.SIGCONT)
    wait_until(lambda: served.events("watch.overflow"))
    wait_until(lambda: len(served.names("queued")) == 20)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_jobs_leave_no_descriptors_and_no_threads_behind(served: Served) -> None:
    served.start()
    wait_until(lambda: served.status()["renderer"]["state"] == "ready")
    assert served.process is not None
    folder = Path(f"/proc/{served.process.pid}")
    served.drop("first.toml", JOB)
    wait_until(lambda: served.is_in("done", "first.toml"))
    before = len(list((folder / "fd").iterdir()))
    threads = len(list((folder / "task").iterdir()))
    for number in range(10):
        served.drop(f"job{number}.toml", JOB)
    wait_until(lambda: len(served.names("done")) == 11)
    wait_until(lambda: len(list((folder / "fd").iterdir())) <= before, timeout=10)
    assert len(list((folder / "task").iterdir())) <= threads + 8, "only the threads that write side by side"


def test_names_that_are_no_text_are_served(root: Root, served: Served) -> None:
    served.start()
    name = b"bad\xff\nname.toml".decode("utf-8", "surrogateescape")
    served.drop(name, JOB)
    wait_until(lambda: served.names("done") == ["bad-name.toml"])
    assert all(line.isprintable() for line in served.log.read_text().splitlines())
