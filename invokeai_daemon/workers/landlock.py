"""Where a confined process may write: nowhere but below the folders that are named, whatever its user may do.

Called by `confine`. Uses Landlock, which any process may use to take rights from itself; from Linux 5.13. What is open
already stays open. Newer kernels also take away TCP and signals to other processes.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE = 1 << 0, 1 << 1
#: Removing and making files, folders, links, pipes, sockets and devices.
_CHANGE_FOLDERS = sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE = 1 << 13, 1 << 14
#: Rights that came with each version of Landlock.
_SINCE = {1: _EXECUTE | _WRITE_FILE | _CHANGE_FOLDERS, 2: _REFER, 3: _TRUNCATE}
_TCP, _SCOPES = 0b11, 0b11


def write_only_below(libc: ctypes.CDLL, folders: Iterable[Path]) -> str:
    """Give up writing elsewhere, and running programs; why not, as a phrase, empty when it is done.

    The process must have given up new privileges before.
    """
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    if version < 1:
        return f"this kernel has no Landlock ({os.strerror(ctypes.get_errno())})"
    rights = sum(right for since, right in _SINCE.items() if since <= version)
    wanted = struct.pack("=3Q", rights, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    wanted = wanted[: 24 if version >= 6 else 16 if version >= 4 else 8]
    rules = libc.syscall(_CREATE_RULESET, wanted, ctypes.c_size_t(len(wanted)), ctypes.c_uint32(0))
    if rules < 0:
        return f"Landlock refuses its rules ({os.strerror(ctypes.get_errno())})"
    try:
        for folder in folders:
            if problem := _allow(libc, rules, folder, rights & ~_EXECUTE):
                return problem
        if libc.syscall(_RESTRICT_SELF, rules, ctypes.c_uint32(0)) != 0:
            return f"Landlock is not put into force ({os.strerror(ctypes.get_errno())})"
    finally:
        os.close(rules)
    return ""


def _allow(libc: ctypes.CDLL, rules: int, folder: Path, rights: int) -> str:
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    except OSError as error:
        return f"{folder} cannot be opened ({error.strerror})"
    try:
        rule = struct.pack("=Qi", rights, descriptor)
        if libc.syscall(_ADD_RULE, rules, _RULE_PATH_BENEATH, rule, ctypes.c_uint32(0)) != 0:
            return f"Landlock refuses {folder} ({os.strerror(ctypes.get_errno())})"
    finally:
        os.close(descriptor)
    return ""
