"""A confined process has no network, no more memory than it may, no way to new privileges, and no life of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel calls are Linux's")

CONFINED = "from invokeai_daemon.workers.confine import confine\ncomplaints = confine(600)\n"


def said(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", CONFINED + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_memory_beyond_the_limit_is_refused_to_it_and_not_taken_from_others() -> None:
    assert said("try:\n bytearray(700 << 20)\nexcept MemoryError:\n print('refused')") == "refused"


@linux
def test_the_network_is_gone_or_the_log_says_why_it_is_not() -> None:
    code = "import os; print(complaints, [n for n in open('/proc/net/dev').read().split() if n.endswith(':')])"
    answer = said(code)
    assert answer == "() ['lo:']" or "keeps its network access" in answer


@linux
def test_programs_it_starts_gain_no_privileges() -> None:
    assert "NoNewPrivs:\t1" in said("print(open('/proc/self/status').read())")


def test_it_leaves_no_core_dump_and_opens_few_files() -> None:
    code = "import resource as r; print(r.getrlimit(r.RLIMIT_CORE), r.getrlimit(r.RLIMIT_NOFILE))"
    assert said(code) == "(0, 0) (128, 128)"


@linux
def test_files_it_writes_belong_to_the_same_user(tmp_path: Path) -> None:
    said(f"open({str(tmp_path / 'x')!r}, 'w').close()")
    assert (tmp_path / "x").stat().st_uid == os.getuid()


@linux
def test_it_dies_with_its_parent() -> None:
    """A parent starts a confined child that sleeps, tells its pid, and is killed."""
    child = CONFINED + "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 20
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not running(pid)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@linux
def test_it_ends_at_once_when_its_parent_is_gone_already() -> None:
    code = "from invokeai_daemon.workers.confine import confine\nconfine(600, parent=1 << 22)\nprint('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
