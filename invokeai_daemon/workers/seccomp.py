"""System calls that a confined process may not make: a filter in the kernel, which stays until the process ends.

Called by `confine`. It takes away what reading and copying files never needs: to start a program or a process (threads
stay), to open a socket, to trace or reach into other processes, to change mounts and the kernel. Linux only.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
CLONE_THREAD = 0x00010000

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
#: Instructions of the kernel's packet filter: load a word, jump if equal, if greater, if any bit is set, return.
_LOAD, _EQUAL, _GREATER, _BITS, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
#: Where the number of the call, the machine and the lower half of the first argument lie.
_NUMBER, _MACHINE, _ARGUMENT = 0, 4, 16
#: Calls of the x32 interface, which the filter would know under other numbers.
_X32 = 0x40000000


@dataclass(frozen=True)
class Machine:
    """A processor's name for itself and its numbers of system calls."""

    audit: int
    #: Refused with EPERM.
    forbidden: Mapping[str, int]
    #: Allowed to make threads only.
    clone: int
    #: Its arguments cannot be looked at, so it is said not to exist: the C library then uses `clone`.
    clone3: int = 435


#: The same on all machines, since they are newer than their common table.
_COMMON = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
}
# fmt: off
MACHINES = {
    "x86_64": Machine(
        audit=0xC000003E,
        clone=56,
        forbidden=_COMMON
        | {
            "socket": 41, "socketpair": 53, "execve": 59, "execveat": 322, "fork": 57, "vfork": 58, "ptrace": 101,
            "process_vm_readv": 310, "process_vm_writev": 311, "mount": 165, "umount2": 166, "pivot_root": 155,
            "chroot": 161, "unshare": 272, "setns": 308, "init_module": 175, "finit_module": 313, "bpf": 321,
            "perf_event_open": 298, "userfaultfd": 323, "kexec_load": 246, "keyctl": 250, "add_key": 248,
            "reboot": 169, "swapon": 167, "mknod": 133, "mknodat": 259, "kill": 62, "tkill": 200,
        },
    ),
    "aarch64": Machine(
        audit=0xC00000B7,
        clone=220,
        forbidden=_COMMON
        | {
            "socket": 198, "socketpair": 199, "execve": 221, "execveat": 281, "ptrace": 117,
            "process_vm_readv": 270, "process_vm_writev": 271, "mount": 40, "umount2": 39, "pivot_root": 41,
            "chroot": 51, "unshare": 97, "setns": 268, "init_module": 105, "finit_module": 273, "bpf": 280,
            "perf_event_open": 241, "userfaultfd": 282, "kexec_load": 104, "keyctl": 219, "add_key": 217,
            "reboot": 142, "swapon": 224, "mknodat": 33, "kill": 129, "tkill": 130,
        },
    ),
}


# fmt: on


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def forbid_calls(libc: ctypes.CDLL) -> str:
    """Install the filter for this process and its threads; why not, as a phrase, empty when it is installed.

    The process must have given up new privileges before.
    """
    machine = MACHINES.get(platform.machine())
    if machine is None:
        return f"the numbers of system calls of {platform.machine()} are not known here"
    program = b"".join(_filter(machine))
    raw = _Program(len(program) // 8, program)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(raw), 0, 0) != 0:
        return f"the kernel takes no filter: {errno.errorcode.get(ctypes.get_errno(), 'unknown')}"
    return ""


def _filter(machine: Machine) -> Iterator[bytes]:
    """The instructions: each jumps over the next one or not."""
    refuse, missing = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    yield _instruction(_LOAD, _MACHINE)
    yield _instruction(_EQUAL, machine.audit, 1, 0)
    yield _instruction(_RETURN, _KILL)
    yield _instruction(_LOAD, _NUMBER)
    yield _instruction(_GREATER, _X32 - 1, 0, 1)
    yield _instruction(_RETURN, refuse)
    for number in sorted(machine.forbidden.values()):
        yield _instruction(_EQUAL, number, 0, 1)
        yield _instruction(_RETURN, refuse)
    yield _instruction(_EQUAL, machine.clone3, 0, 1)
    yield _instruction(_RETURN, missing)
    yield _instruction(_EQUAL, machine.clone, 1, 0)
    yield _instruction(_RETURN, _ALLOW)
    yield _instruction(_LOAD, _ARGUMENT)
    yield _instruction(_BITS, CLONE_THREAD, 1, 0)
    yield _instruction(_RETURN, refuse)
    yield _instruction(_RETURN, _ALLOW)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
