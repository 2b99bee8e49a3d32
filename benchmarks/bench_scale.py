"""Scale: thousands of LoRA files dropped at once, and a start with all of them known.

    python -m benchmarks.bench_scale [--count 5000]

The files are sparse, with headers as trainers write them (some 400 to 2,200 tensors). The kernel's queue of events is
made to overflow. A start must not open one of them again, which the kernel counts. Exits 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from invokeai_daemon.root import Root

#: Seconds, and MiB.
MOST_SECONDS, MOST_MEMORY, MOST_START = 60.0, 80.0, 3.0
#: Closings of each file while the daemon sleeps: with the renames more than the kernel's 16,384 events.
TOUCHES = 4

Shapes = Mapping[str, tuple[int, ...]]


def kohya(blocks: Mapping[str, int], widths: Mapping[str, int], context: int, rank: int) -> dict[str, tuple[int, ...]]:
    """The attention layers of a UNet as kohya's trainer names them. `blocks`: place -> transformer blocks."""
    tensors: dict[str, tuple[int, ...]] = {}
    for place, depth in blocks.items():
        width = widths[place]
        layers = {"proj_in": (width, width), "proj_out": (width, width)}
        for block in range(depth):
            at = f"transformer_blocks_{block}_"
            for name in ("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn1_to_out_0", "attn2_to_q", "attn2_to_out_0"):
                layers[at + name] = (width, width)
            layers |= {at + "attn2_to_k": (context, width), at + "attn2_to_v": (context, width)}
            layers |= {at + "ff_net_0_proj": (width, 8 * width), at + "ff_net_2": (4 * width, width)}
        for layer, sizes in layers.items():
            tensors |= adapted(f"lora_unet_{place}_{layer}", *sizes, rank)
    return tensors


def adapted(name: str, width_in: int, width_out: int, rank: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.alpha": (),
        f"{name}.lora_down.weight": (rank, width_in),
        f"{name}.lora_up.weight": (width_out, rank),
    }


def text_encoder(prefix: str, layers: int, width: int, rank: int) -> dict[str, tuple[int, ...]]:
    tensors: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        at = f"{prefix}_text_model_encoder_layers_{layer}_"
        for name in ("k_proj", "out_proj", "q_proj", "v_proj"):
            tensors |= adapted(f"{at}self_attn_{name}", width, width, rank)
        tensors |= adapted(f"{at}mlp_fc1", width, 4 * width, rank) | adapted(f"{at}mlp_fc2", 4 * width, width, rank)
    return tensors


def kinds() -> list[Shapes]:
    """LoRA files as they circulate: SD-1 with text encoder, without it, only attention; SDXL without text encoders."""
    widths = {
        f"{side}_blocks_{number}_attentions_{place}": width
        for side, number, width, places in (
            ("down", 0, 320, 2),
            ("down", 1, 640, 2),
            ("down", 2, 1280, 2),
            ("up", 1, 1280, 3),
            ("up", 2, 640, 3),
            ("up", 3, 320, 3),
        )
        for place in range(places)
    }
    widths["mid_block_attentions_0"] = 1280
    sd1 = kohya(dict.fromkeys(widths, 1), widths, 768, 16)
    deep = {"down_blocks_1_attentions_0": 2, "down_blocks_1_attentions_1": 2, "mid_block_attentions_0": 10}
    deep |= {f"down_blocks_2_attentions_{place}": 10 for place in range(2)}
    deep |= {f"up_blocks_0_attentions_{place}": 10 for place in range(3)}
    deep |= {f"up_blocks_1_attentions_{place}": 2 for place in range(3)}
    sdxl_widths = {place: 640 if depth == 2 else 1280 for place, depth in deep.items()}
    sdxl = kohya(deep, sdxl_widths, 2048, 8)
    attention = {name: shape for name, shape in sd1.items() if "_attn" in name}
    whole = sd1 | text_encoder("lora_te", 12, 768, 16)
    return [whole, sdxl, attention, whole, sdxl, sd1]


def header(shapes: Shapes, name: str) -> tuple[bytes, int]:
    """The length and JSON of a safetensors file, and how many bytes its tensors take."""
    entries: dict[str, Any] = {"__metadata__": {"ss_output_name": name, "ss_network_module": "networks.lora"}}
    position = 0
    for tensor, shape in shapes.items():
        end = position + 2 * math.prod(shape)
        entries[tensor] = {"dtype": "F16", "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text, position


def write_files(folder: Path, count: int) -> int:
    """So many sparse files; their tensors, all together."""
    folder.mkdir()
    shapes = kinds()
    for number in range(count):
        name = f"lora-{number:05}"
        head, tail = header(shapes[number % len(shapes)], name)
        with (folder / f"{name}.safetensors").open("wb") as file:
            file.write(head)
            file.truncate(len(head) + tail)
    return sum(len(shapes[number % len(shapes)]) for number in range(count))


@dataclass
class Served:
    """A daemon, and what can be seen of it from outside."""

    root: Root
    process: subprocess.Popen[bytes]

    def status(self) -> dict[str, Any]:
        try:
            status = json.loads(self.root.status_file.read_bytes())
        except (OSError, ValueError):
            return {}
        return status if status.get("pid") == self.process.pid else {}

    def memory(self, what: str) -> float:
        """VmHWM or VmRSS, MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024

    def processor_seconds(self) -> str:
        """What daemon and importer took of the processor so far."""
        daemon = psutil.Process(self.process.pid)
        taken = {"daemon": sum(daemon.cpu_times()[:2])}
        for child in daemon.children():
            if "invokeai_daemon.workers.importer" in child.cmdline():
                taken["importer"] = sum(child.cpu_times()[:2])
        return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in taken.items())

    def wait(self, condition: Callable[[dict[str, Any]], bool], timeout: float) -> bool:
        """Until the status is so; False when it is not in time."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            status = self.status()
            if status and condition(status):
                return True
            if self.process.poll() is not None:
                raise SystemExit(f"the daemon ended; see {self.root.path / 'log'}")
            time.sleep(0.02)
        return False


@contextmanager
def served(root: Root) -> Iterator[Served]:
    environment = {**os.environ, "INVOKEAI_DAEMON_IMPORT_THUMBNAILS": "false"}
    with (root.path / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "invokeai_daemon", "run", "--root", str(root.path)], stderr=log, env=environment
        )
    try:
        yield Served(root, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


class Opened:
    """Counts how often files in a folder are opened (Linux)."""

    _OPEN, _IS_FOLDER = 0x20, 0x40000000

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK)
        libc.inotify_add_watch(self._descriptor, os.fsencode(folder), self._OPEN)

    def count(self) -> int:
        found = 0
        while True:
            try:
                raw = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                return found
            while raw:
                _, mask, _, length = struct.unpack_from("iIII", raw)
                found += not mask & self._IS_FOLDER
                raw = raw[16 + length :]


@dataclass(frozen=True)
class Row:
    """One figure and its bound."""

    what: str
    seen: str
    must: str
    is_met: bool


def drop(source: Path, folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Rename all files in at once and touch them, while the daemon sleeps: more events than the kernel keeps."""
    process.send_signal(signal.SIGSTOP)
    dropped = [path.rename(folder / path.name) for path in sorted(source.iterdir())]
    for _ in range(TOUCHES):
        for path in dropped:
            os.close(os.open(path, os.O_WRONLY))
    process.send_signal(signal.SIGCONT)


def measure(scratch: Path, count: int) -> list[Row]:
    """The figures of one drop and one start. `scratch` is an empty folder."""
    root = Root(scratch / "root")
    root.make()
    tensors = write_files(scratch / "files", count)
    folder = root.autoimport / "lora"
    with served(root) as daemon:
        daemon.wait(lambda status: status["state"] == "running", 60)
        idle = daemon.memory("VmRSS")
        started = time.monotonic()
        drop(scratch / "files", folder, daemon.process)
        done = daemon.wait(lambda status: bool(status["models"]["ok"] >= count), 4 * MOST_SECONDS)
        taken = time.monotonic() - started
        peak, processor = daemon.memory("VmHWM"), daemon.processor_seconds()
        models = daemon.status()["models"]
    overflows = (root.path / "log").read_text(errors="replace").count("watch.overflow")
    opened = Opened(folder)
    started = time.monotonic()
    with served(root) as daemon:
        daemon.wait(lambda status: bool(status["models"]["ok"] >= count), 60)
        # Counted here, because full hashes are computed from now on.
        start, again = time.monotonic() - started, opened.count()
        known = daemon.memory("VmRSS")
    return [
        Row(f"{count:,} LoRA files ({tensors:,} tensors) dropped", f"{taken:.1f} s", f"≤ {MOST_SECONDS:.0f} s",
            done and taken <= MOST_SECONDS),
        Row("processor time of that", processor, "-", True),
        Row("all registered", f"{models['ok']} ok", f"{count} ok", models["ok"] == count),
        Row("queues of events that overflowed", str(overflows), "≥ 1", overflows > 0),
        Row("highest memory of the daemon", f"{peak:.0f} MiB (idle {idle:.0f})", f"≤ {MOST_MEMORY:.0f}",
            peak <= MOST_MEMORY),
        Row(f"start with {count:,} known models", f"{start:.2f} s", f"≤ {MOST_START:.0f} s", start <= MOST_START),
        Row("model files opened by that start", str(again), "0", again == 0),
        Row("memory after that start", f"{known:.0f} MiB", f"≤ {MOST_MEMORY:.0f}", known <= MOST_MEMORY),
    ]  # fmt: skip


def run(scratch: Path, count: int = 5000) -> bool:
    """Measure and print; whether all bounds are met."""
    rows = measure(scratch, count)
    for row in rows:
        print(f"{row.what:<56} {row.seen:<34} must: {row.must}{'' if row.is_met else '   MISSED'}", flush=True)
    return all(row.is_met for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(not run(Path(scratch), count))


if __name__ == "__main__":
    main()
