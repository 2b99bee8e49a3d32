"""The renderer process: orders in on standard input, events out on standard output, torch in between.

Started by the daemon as `python -m invokeai_daemon.workers.renderer --settings JSON`. It never outlives the daemon: the
kernel kills it when the daemon dies, and an end of the input is the end of the process.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from invokeai_daemon.job.plan import Plan
from invokeai_daemon.settings import Settings
from invokeai_daemon.workers.protocol import Message, encode, messages

if TYPE_CHECKING:
    from invokeai_daemon.engine.render import Renderer

#: Nothing is fetched while rendering, and no library asks the network whether it could.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DIFFUSERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
}
IDLE_SECONDS = 0.5
#: prctl(2): the signal that this process gets when its parent dies.
PR_SET_PDEATHSIG = 1


class Events:
    """The way to the daemon. Safe to use from every thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lock = descriptor, threading.Lock()
        self.last = time.monotonic()

    def say(self, event: Message) -> None:
        line = memoryview(encode(event))
        try:
            with self._lock:
                while line:
                    line = line[os.write(self._descriptor, line) :]
                self.last = time.monotonic()
        except BrokenPipeError:
            os._exit(0)

    def beat(self) -> None:
        """Show that the working loop turns, unless an event just did."""
        if time.monotonic() - self.last > IDLE_SECONDS:
            self.say({"event": "beat"})


class Orders:
    """The orders of the daemon, read in a thread; the end of the stream ends the process at once."""

    def __init__(self, stream: BinaryIO) -> None:
        self._waiting: queue.SimpleQueue[Message] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(stream,), name="orders", daemon=True).start()

    def stop(self, *signal_arguments: object) -> None:
        self._waiting.put({"order": "stop"})

    def take(self, patience: float) -> list[Message]:
        """All orders that are there; waits so many seconds for the first."""
        taken = []
        with contextlib.suppress(queue.Empty):
            taken.append(self._waiting.get(timeout=patience) if patience else self._waiting.get_nowait())
            while True:
                taken.append(self._waiting.get_nowait())
        return taken

    def _read(self, stream: BinaryIO) -> None:
        try:
            for message in messages(stream):
                self._waiting.put(message)
        except BaseException:  # noqa: BLE001  without orders there is no use in going on
            traceback.print_exc()
            os._exit(70)
        os._exit(0)


def main() -> None:
    _die_with_parent()
    orders_stream, events = _take_over_standard_streams()
    orders = Orders(orders_stream)
    # A terminal's Ctrl-C goes to the whole group; the daemon decides what it means for us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, orders.stop)
    try:
        code = serve(_arguments(), orders, events)
    except Exception:  # noqa: BLE001  the boundary of the process: the daemon logs the reason and replaces it
        traceback.print_exc()
        code = 70
    sys.stderr.flush()
    # Threads of torch and of the stages hold nothing that needs a farewell.
    os._exit(code)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--settings", default=Settings(), type=Settings.model_validate_json, help="as JSON")
    parser.add_argument("--memory", type=Path, help="the file that remembers how models fit into memory")
    return parser.parse_args()


def _die_with_parent() -> None:
    """Be killed by the kernel when the daemon dies, however it dies. Linux only; elsewhere the closed pipe does it."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _take_over_standard_streams() -> tuple[BinaryIO, Events]:
    """Keep the pipes to the daemon for the protocol alone: what libraries print goes to standard error."""
    orders, events = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(orders, "rb"), Events(events)


def serve(arguments: argparse.Namespace, orders: Orders, events: Events) -> int:
    """Take orders until told to stop. Returns the exit code."""
    os.environ.update(OFFLINE)
    renderer, ready = _new_renderer(arguments.settings, arguments.memory, events)
    events.say(ready)
    while True:
        for order in orders.take(IDLE_SECONDS if renderer.is_idle else 0.0):
            if order["order"] == "stop":
                renderer.finish()
                return 0
            obey(order, renderer, events)
        renderer.turn()
        events.beat()


def _new_renderer(settings: Settings, memory: Path | None, events: Events) -> tuple[Renderer, Message]:
    """Import torch and all that renders, which takes seconds."""
    import torch

    from invokeai_daemon.engine.loading.bounds import bound_memory
    from invokeai_daemon.engine.loading.precision import choose_device
    from invokeai_daemon.engine.render import Renderer

    device = choose_device(settings.render.device)
    cores = settings.render.threads or _usable_cores()
    torch.set_num_threads(cores)
    renderer = Renderer(settings, device, cores, events.say, memory)
    bound_memory(device, settings.render.memory_gb)
    return renderer, {"event": "ready", "worker": "renderer", "pid": os.getpid(), "device": str(device)}


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def obey(order: Message, renderer: Renderer, events: Events) -> None:
    """Do what the daemon orders."""
    if order["order"] == "render":
        _render(order, renderer)
    elif order["order"] == "cancel":
        renderer.cancel(order["job"])
        events.say({"event": "cancelled", "job": order["job"]})
    else:
        sys.stderr.write(f"renderer: unknown order {order['order']!r} was left alone\n")


def _render(order: dict[str, Any], renderer: Renderer) -> None:
    from invokeai_daemon.engine.backlog import Ticket

    plan, wanted = Plan.from_json(order["plan"]), set(order["images"])
    images = [image for image in plan.images if image.number in wanted]
    renderer.add(Ticket(plan, Path(order["folder"])), images, bool(order.get("alone")))


if __name__ == "__main__":
    main()
