"""Confinement: what a worker that reads untrusted files gives up before it reads the first of them.

Called by the importer at its start. Everything here is a second wall: the readers themselves run nothing from a file.
What a system does not permit is reported, not insisted on. POSIX; the prctl and namespace parts are Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

#: Open files: standard streams, a source, a target, a folder, what Python opens to import.
OPEN_FILES = 128


def confine(memory_mb: int, parent: int | None = None) -> tuple[str, ...]:
    """Give up memory beyond `memory_mb` MiB, new privileges, core dumps and the network; die with the parent.

    `parent` is the pid that the process was started by: when it is gone already, the process ends here. Gives the
    sentences to log about what the system did not permit. Must be called before any thread is started.
    """
    _limit(resource.RLIMIT_AS, memory_mb * 1024 * 1024)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    if not sys.platform.startswith("linux"):
        return ("the importer keeps its network access: it can be taken away on Linux only",)
    return tuple(_linux(parent))


def _limit(kind: int, wanted: int) -> None:
    """Lower a limit; one that is lower already stays."""
    _, hard = resource.getrlimit(kind)
    bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (bound, bound))


def _linux(parent: int | None) -> Iterator[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if not _without_network(libc):
        yield f"the importer keeps its network access: {os.strerror(ctypes.get_errno())}"
    # Last, because a change of credentials forgets it.
    _die_with_parent(libc, parent)


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
