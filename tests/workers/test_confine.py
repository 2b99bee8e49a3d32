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


@linux
def test_it_starts_no_process_but_threads() -> None:
    code = (
        "import os, subprocess, threading\n"
        "for start in (lambda: subprocess.run(['true']), lambda: os.system('true') and 1 / 0, os.fork,\n"
        "              lambda: os.execv('/bin/true', ['true']), lambda: os.posix_spawn('/bin/true', ['true'], {})):\n"
        "    try:\n"
        "        start()\n"
        "        print('started')\n"
        "    except (PermissionError, ZeroDivisionError):\n"
        "        print('refused')\n"
        "thread = threading.Thread(target=print, args=('thread',))\n"
        "thread.start()\n"
        "thread.join()\n"
        "print(complaints)"
    )
    answer = said(code).splitlines()
    if "may start processes" in answer[-1]:
        pytest.skip(answer[-1])
    assert answer == ["refused"] * 5 + ["thread", "()"]


@linux
def test_it_opens_no_socket_and_looks_into_no_other_process() -> None:
    code = (
        "import ctypes, os, socket\n"
        "for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):\n"
        "    try:\n"
        "        socket.socket(family)\n"
        "        print('opened')\n"
        "    except PermissionError:\n"
        "        print('refused')\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.ptrace(16, os.getppid(), 0, 0), libc.kill(os.getppid(), 0), ctypes.get_errno())\n"
    )
    answer = said(code).splitlines()
    assert answer == ["refused"] * 3 + ["-1 -1 1"]


@linux
def test_it_writes_only_where_it_may(tmp_path: Path) -> None:
    mine, other = tmp_path / "models", tmp_path / "autoimport"
    for folder in (mine, other):
        folder.mkdir()
        (folder / "old").write_text("old")
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom invokeai_daemon.workers.confine import confine\n"
        "mine, other = map(Path, sys.argv[1:])\n"
        "print(confine(600, writable=[mine]))\n"
        "def tried(what):\n"
        "    try:\n"
        "        what()\n"
        "        return 'done'\n"
        "    except OSError as error:\n"
        "        return 'refused'\n"
        "for folder in (mine, other):\n"
        "    print(tried(lambda: (folder / 'new').write_text('x')), tried(lambda: (folder / 'old').open('a')),\n"
        "          tried(lambda: os.truncate(folder / 'old', 0)), tried((folder / 'folder').mkdir),\n"
        "          tried(lambda: (folder / 'link').symlink_to('x')), tried((folder / 'old').unlink))\n"
        "print(tried((other / 'old').read_text), tried(lambda: (mine / 'new').rename(other / 'moved')),\n"
        "      tried(lambda: (mine / 'new').rename(mine / 'folder/moved')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(mine), str(other)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    complaints, inside, outside, between = done.stdout.splitlines()
    if "Landlock" in complaints:
        pytest.skip(complaints)
    assert inside == " ".join(["done"] * 6)
    assert outside == " ".join(["refused"] * 6)
    assert between == "done refused done"
    assert sorted(path.name for path in other.iterdir()) == ["old"]


@linux
def test_nothing_is_writable_when_no_folder_is_named(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom invokeai_daemon.workers.confine import confine\n"
        "complaints = confine(600, writable=[])\n"
        "try:\n    Path(sys.argv[1]).write_text('x')\nexcept OSError as error:\n    print('refused')\n"
        "print(complaints)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x")], capture_output=True, text=True, check=False
    )
    assert "refused" in done.stdout or "Landlock" in done.stdout, done.stderr


LIMITED = CONFINED + "from invokeai_daemon.workers.confine import OutOfTime, order_limits\n"


def test_an_order_that_takes_too_much_processor_time_is_given_up_and_the_next_has_its_own() -> None:
    code = (
        "import time\n"
        "def spin(seconds):\n"
        "    end = time.process_time() + seconds\n"
        "    while time.process_time() < end: pass\n"
        "for seconds in (0.1, 30, 0.1):\n"
        "    try:\n"
        "        with order_limits(0.5, 1 << 30):\n"
        "            spin(seconds)\n"
        "        print('done')\n"
        "    except OutOfTime as error:\n"
        "        print(str(error)[:24])\n"
        "spin(1.6)\n"
        "print('alive')\n"
    )
    assert said("").strip() == ""
    done = subprocess.run([sys.executable, "-c", LIMITED + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:4] == ["done", "Looking at the file take", "done", "alive"]


def test_an_order_writes_no_longer_file_than_it_may(tmp_path: Path) -> None:
    code = (
        f"path = {str(tmp_path / 'x')!r}\n"
        "with order_limits(60, 1000):\n"
        "    try:\n"
        "        with open(path, 'wb', buffering=0) as file:\n"
        "            print(file.write(bytes(1000)), file.write(bytes(1000)))\n"
        "    except OSError as error:\n"
        "        print(error.strerror)\n"
        "print(open(path, 'wb').write(bytes(2000)))\n"
    )
    done = subprocess.run([sys.executable, "-c", LIMITED + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["File too large", "2000"]
