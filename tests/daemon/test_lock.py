"""One daemon per root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from invokeai_daemon.daemon import lock
from invokeai_daemon.errors import RootInUse
from invokeai_daemon.root import Root

HOLDER = """
import sys
from pathlib import Path
from invokeai_daemon.daemon import lock
from invokeai_daemon.root import Root
with lock.held(Root(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(root: Root) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_daemon_is_refused_and_told_who_holds_the_root(root: Root, holder: subprocess.Popen[bytes]) -> None:
    with pytest.raises(RootInUse, match=f"process {holder.pid}") as refusal, lock.held(root):
        pass
    assert refusal.value.pid == holder.pid


def test_deleting_the_lock_file_lets_nobody_in(root: Root, holder: subprocess.Popen[bytes]) -> None:
    root.lock_file.unlink()
    with pytest.raises(RootInUse), lock.held(root):
        pass


def test_a_killed_daemon_leaves_no_stale_lock(root: Root, holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.wait()
    with lock.held(root):
        assert root.lock_file.read_text() == f"{os.getpid()}\n"


def test_the_lock_is_free_again_after_use(root: Root) -> None:
    for _ in range(2):
        with lock.held(root):
            pass


def test_descriptors_are_not_leaked(root: Root) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with lock.held(root):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
