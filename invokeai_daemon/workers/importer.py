"""The importer: looks at dropped models, converts what can be converted, and says what it found. One order at a time.

    python -m invokeai_daemon.workers.importer [--memory-mb 4096] [--cpu-seconds 600] [--root DIR | --read-only]

Started by the daemon and by `models import`; speaks the protocol of `protocol`. It reads untrusted files, so it is
confined first. Without orders it computes full hashes, in a thread that anything else stops.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from pathlib import Path

from invokeai_daemon.root import Root
from invokeai_daemon.workers.confine import confine
from invokeai_daemon.workers.hashing import Hashing
from invokeai_daemon.workers.importing import Import, log
from invokeai_daemon.workers.pipes import Emit, emitter, private_output
from invokeai_daemon.workers.pipes import orders as orders_on
from invokeai_daemon.workers.protocol import ProtocolError

MEMORY_MB, CPU_SECONDS = 4096, 600.0
#: New objects after which the garbage collector looks for cycles: a header has ten thousand, and no cycle.
GC_THRESHOLD = 200_000


def main() -> int:
    parser = argparse.ArgumentParser(description="Looks at models for invokeai-daemon, which starts it.")
    parser.add_argument("--memory-mb", type=int, default=MEMORY_MB, help="address space in MiB")
    parser.add_argument("--cpu-seconds", type=float, default=CPU_SECONDS, help="processor time of one order")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--root", type=Path, help="write below its models/ only; without it, where the user may")
    where.add_argument("--read-only", action="store_true", help="write nothing")
    wanted = parser.parse_args()
    writable = _writable(Root(wanted.root)) if wanted.root else [] if wanted.read_only else None
    parent = os.getppid()
    logging.basicConfig(level=logging.INFO, format="importer: %(message)s", stream=sys.stderr)
    emit = emitter(private_output())
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    for complaint in confine(wanted.memory_mb, parent, writable=writable):
        log.warning("%s", complaint)
    emit({"event": "ready", "worker": "importer", "pid": os.getpid()})
    try:
        serve(0, emit, wanted.cpu_seconds)
    except (BrokenPipeError, ProtocolError) as error:
        log.error("%s", error)
        return 1
    return 0


def _writable(root: Root) -> list[Path]:
    """Where converted models go: models/, and the folders on other disks that links in it lead to."""
    levels = (root.models.glob(pattern) for pattern in ("*", "*/*"))
    return [root.models, *(path for level in levels for path in level if path.is_symlink() and path.is_dir())]


def serve(orders: int, emit: Emit, cpu_seconds: float = CPU_SECONDS) -> None:
    """Follow the orders that arrive on a descriptor until "stop" or its end."""
    hashing = Hashing(emit)
    for order in orders_on(orders, lambda: emit({"event": "beat"})):
        hashing.stop()
        match order.get("order"):
            case "stop":
                return
            case "import":
                root, wishes = Root(Path(order["root"])), {key: order.get(key) for key in ("use_ema", "vae")}
                wishes["dtype"] = order.get("dtype", "keep")
                wanted = Import(Path(order["path"]), root, emit, bool(order.get("verify")), wishes, cpu_seconds)
                emit(wanted.outcome())
            case "identify":
                emit(Import(Path(order["path"]), None, emit, cpu_seconds=cpu_seconds).outcome())
            case "hash":
                hashing.start(Path(order["path"]))
            case unknown:
                raise ProtocolError(f"no order of the importer: {unknown!r}")


if __name__ == "__main__":
    sys.exit(main())
