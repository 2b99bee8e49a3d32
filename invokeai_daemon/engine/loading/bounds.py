"""Bounds: how much memory the renderer may use on its device. Called once, when it starts."""

from __future__ import annotations

import sys

import psutil
import torch

#: Bytes that the program itself takes later: libraries that are imported when they are needed, stacks, buffers.
PROGRAM = 300_000_000


def bound_memory(device: torch.device, gigabytes: float) -> None:
    """Let torch run out of memory beyond so much, as if the device had no more. 0 leaves it as it is.

    On a CPU the bound is on what is taken beyond that of the bare program. Linux only; elsewhere there is none.
    """
    if not gigabytes:
        return
    if device.type == "cuda":
        total = torch.cuda.mem_get_info(device)[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, gigabytes * 1e9 / total), device)
    elif device.type == "cpu" and sys.platform.startswith("linux"):
        import resource

        # Private memory only: mapped files, such as weights that are streamed, do not count.
        bound = psutil.Process().memory_info().data + PROGRAM + int(gigabytes * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (bound, resource.getrlimit(resource.RLIMIT_DATA)[1]))
