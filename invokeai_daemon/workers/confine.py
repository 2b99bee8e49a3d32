"""Confinement: what a worker that reads untrusted files gives up before it reads the first of them.

Called by the importer at its start, and around each order for what is measured per order. Everything here is a second
wall: the readers themselves run nothing from a file. What a system does not permit is reported, not insisted on.
POSIX; the prctl, namespace, Landlock and seccomp parts are Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from invokeai_daemon.errors import ModelError
from invokeai_daemon.workers.landlock import write_only_below
from invokeai_daemon.workers.seccomp import forbid_calls

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

#: Open files: standard streams, a source, a target, a folder, what Python opens to import.
OPEN_FILES = 128


class OutOfTime(ModelError):
    """Looking at the file takes more processor time than it may ([import] cpu_seconds); it was given up."""


def confine(
    memory_mb: int, parent: int | None = None, *, writable: Sequence[Path] | None = None, processes: bool = False
) -> tuple[str, ...]:
    """Give up memory beyond `memory_mb` MiB, new privileges, new processes, core dumps, network; die with the parent.

    `parent` is the pid that the process was started by: when it is gone already, the process ends here. With
    `writable`, files can be written below these folders only; with `processes`, programs can still be started. Gives
    the sentences to log about what the system did not permit. Must be called before any thread is started.
    """
    _limit(resource.RLIMIT_AS, memory_mb * 1024 * 1024)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    if not sys.platform.startswith("linux"):
        return ("the importer keeps its network access, and may write where its user may: only Linux can take that",)
    return tuple(_linux(parent, writable, processes))


@contextlib.contextmanager
def order_limits(cpu_seconds: float, file_bytes: int) -> Iterator[None]:
    """Within, so much processor time may be used and no longer file be written.

    Raises OutOfTime in the main thread when the time is over; writing more is an OSError (EFBIG).
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    end = int(used.ru_utime + used.ru_stime + cpu_seconds) + 1
    before = signal.signal(signal.SIGXCPU, _out_of_time)
    with _lowered(resource.RLIMIT_CPU, end), _lowered(resource.RLIMIT_FSIZE, file_bytes):
        try:
            yield
        finally:
            signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    signal.signal(signal.SIGXCPU, before)


def _out_of_time(_number: int, _frame: FrameType | None) -> None:
    # The kernel repeats the signal every second; what cleans up now shall not be disturbed.
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    raise OutOfTime


@contextlib.contextmanager
def _lowered(kind: int, wanted: int) -> Iterator[None]:
    """A soft limit, as it was again afterwards; one that is lower already stays."""
    soft, hard = resource.getrlimit(kind)
    bound = min(limit for limit in (wanted, soft, hard) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(kind, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def _limit(kind: int, wanted: int) -> None:
    """Lower a limit; one that is lower already stays."""
    _, hard = resource.getrlimit(kind)
    bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (bound, bound))


def _linux(parent: int | None, writable: Sequence[Path] | None, processes: bool) -> Iterator[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if not _without_network(libc):
        yield f"the importer keeps its network access: {os.strerror(ctypes.get_errno())}"
    if writable is not None and (problem := write_only_below(libc, writable)):
        yield f"the importer may write where its user may: {problem}"
    # After the change of credentials, which forgets it; before the filter, which needs no exception for it then.
    _die_with_parent(libc, parent)
    if not processes and (problem := forbid_calls(libc)):
        yield f"the importer may start processes: {problem}"


def _without_network(libc: ctypes.CDLL) -> bool:
    """Move into an empty network namespace, with the privilege to do so or in a user namespace of its own."""
    if libc.unshare(CLONE_NEWNET) == 0:
        return True
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return False
    # Files keep their owner without these maps; with them they also look as they are.
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def _die_with_parent(libc: ctypes.CDLL, parent: int | None) -> None:
    """Have the kernel kill this process when its parent ends; exit now if that has happened before."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)
