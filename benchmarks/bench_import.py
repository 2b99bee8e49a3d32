"""Import one full-size checkpoint: how long it takes beside `cp`, how much memory, and whether it is right.

    python -m benchmarks.bench_import                          # makes a random SD-1.5 of 2.1 GB in the temporary folder
    python -m benchmarks.bench_import --sdxl                   # a random SDXL of 6.9 GB
    python -m benchmarks.bench_import my.safetensors           # any checkpoint that is converted
    python -m benchmarks.bench_import --ckpt --no-compare
    python -m benchmarks.bench_import --dtype bfloat16 --no-compare

The importer is the real one, in a process of its own that has imported something before, as the daemon's has; timed
from the order to the `imported` event, with all files on disk. `cp` does not wait for the disk. Every tensor is then
compared with what diffusers' own conversion writes. Fails (exit code 1) when a bound is exceeded or a tensor differs.
`bench_models` runs this for all that the daemon promises.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invokeai_daemon.root import Root

DEMO = Path(__file__).parents[1] / "invokeai_daemon/data/demo.safetensors"
#: Bounds: seconds = FACTOR × cp + SECONDS, and MB.
FACTOR, SECONDS, MEMORY_MB = 1.3, 3.0, 500


@dataclass(frozen=True)
class Imported:
    folder: Path
    #: From the order to its last event.
    seconds: float
    #: Highest resident set of the importer, MB.
    peak_mb: float


@dataclass(frozen=True)
class Figures:
    """What one file cost."""

    name: str
    gigabytes: float
    copy_seconds: float
    import_seconds: float
    peak_mb: float
    #: What differs from diffusers' conversion; None: not compared.
    differences: tuple[str, ...] | None = None

    @property
    def allowed_seconds(self) -> float:
        return FACTOR * self.copy_seconds + SECONDS

    @property
    def is_within_bounds(self) -> bool:
        quick, small = self.import_seconds <= self.allowed_seconds, self.peak_mb <= MEMORY_MB
        return quick and small and not self.differences

    def __str__(self) -> str:
        same = "" if self.differences is None else f", {len(self.differences)} differences"
        return (
            f"{self.name:<28} {self.gigabytes:5.2f} GB  cp {self.copy_seconds:5.2f} s  "
            f"import {self.import_seconds:5.2f} s (may take {self.allowed_seconds:5.2f})  "
            f"peak {self.peak_mb:.0f} MB (may have {MEMORY_MB}){same}  {'ok' if self.is_within_bounds else 'MISSED'}"
        )


def seconds_of_cp(source: Path, folder: Path) -> float:
    """`cp` as it is: it does not wait for the disk, which the importer does."""
    target = folder / "copy"
    os.sync()
    started = time.perf_counter()
    subprocess.run(["cp", "--reflink=auto", source, target], check=True)
    seconds = time.perf_counter() - started
    target.unlink()
    return seconds


@contextmanager
def importer(scratch: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The importer in a process of its own, warmed by the import of the demo model."""
    process = subprocess.Popen(
        [sys.executable, "-m", "invokeai_daemon.workers.importer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        warm = Root(scratch / "warm")
        warm.make()
        ordered(process, {"order": "import", "path": str(DEMO), "root": str(warm.path)})
        shutil.rmtree(warm.path)
        yield process
    finally:
        process.kill()
        process.wait()


def ordered(process: subprocess.Popen[bytes], order: dict[str, Any]) -> dict[str, Any]:
    """Give an order and wait for the event that ends it."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.flush()
    for line in process.stdout:
        event: dict[str, Any] = json.loads(line)
        if event["event"] in ("imported", "verdict"):
            return event
    raise SystemExit("the importer ended")


def imported(source: Path, root: Root, scratch: Path, dtype: str) -> Imported:
    """Import into a new root."""
    root.make()
    with importer(scratch) as process:
        os.sync()
        started = time.perf_counter()
        order = {"order": "import", "path": str(source), "root": str(root.path), "dtype": dtype}
        event = ordered(process, order)
        seconds = time.perf_counter() - started
        peak = highest_resident_set(process.pid)
    if event["event"] != "imported" or "/models/" not in event["entry"]["path"]:
        raise SystemExit(f"not converted: {event}")
    return Imported(Path(event["entry"]["path"]), seconds, peak)


def highest_resident_set(pid: int) -> float:
    """In MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024 / 1e6


def measured(name: str, source: Path, scratch: Path, *, rounds: int, dtype: str = "keep", compare: bool) -> Figures:
    """By turns, so that a noisy machine disturbs both alike; a first copy, not counted, warms the page cache."""
    seconds_of_cp(source, scratch)
    copies: list[float] = []
    imports: list[Imported] = []
    root = Root(scratch / "root")
    for _ in range(rounds):
        copies.append(seconds_of_cp(source, scratch))
        shutil.rmtree(root.path, ignore_errors=True)
        imports.append(imported(source, root, scratch, dtype))
    wrong = tuple(differences(source, imports[-1].folder, scratch / "diffusers")) if compare else None
    shutil.rmtree(root.path)
    shutil.rmtree(scratch / "diffusers", ignore_errors=True)
    return Figures(
        name,
        source.stat().st_size / 1e9,
        statistics.median(copies),
        statistics.median(one.seconds for one in imports),
        max(one.peak_mb for one in imports),
        wrong,
    )


def differences(source: Path, ours: Path, scratch: Path) -> Iterator[str]:
    """What differs between our folder and the one that diffusers writes from the same file, in a process of its own."""
    run = [sys.executable, "-m", "benchmarks.diffusers_conversion", str(source), str(ours), str(scratch)]
    subprocess.run(run, check=True, stderr=subprocess.DEVNULL)
    theirs = sorted(path.relative_to(scratch) for path in scratch.rglob("*.safetensors"))
    mine = sorted(path.relative_to(ours) for path in ours.rglob("*.safetensors"))
    if theirs != mine:
        yield f"files: {mine}, diffusers writes {theirs}"
        return
    for name in mine:
        yield from _differing_tensors(ours / name, scratch / name)


def _differing_tensors(mine: Path, theirs: Path) -> Iterator[str]:
    import torch
    from safetensors import safe_open

    with safe_open(mine, "pt") as one, safe_open(theirs, "pt") as other:
        names = {name.removeprefix("text_model."): name for name in one.keys()}  # noqa: SIM118 (no mapping)
        others = {name.removeprefix("text_model."): name for name in other.keys()}  # noqa: SIM118
        for name in names.keys() ^ others.keys():
            yield f"{mine.parent.name}: {name} is only in one of them"
        for name in names.keys() & others.keys():
            if not torch.equal(one.get_tensor(names[name]), other.get_tensor(others[name])):
                yield f"{mine.parent.name}: {name} differs"
    print(f"  {mine.parent.name}: {len(names)} tensors compared", flush=True)


def made(path: Path, *options: str) -> Path:
    """A random checkpoint, made in a process of its own."""
    run = [sys.executable, "-m", "benchmarks.make_checkpoint", str(path), *options]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--sdxl", action="store_true", help="make an SDXL checkpoint instead of SD-1.5")
    parser.add_argument("--ckpt", action="store_true", help="make a pickle checkpoint instead of safetensors")
    parser.add_argument("--dtype", default="keep")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-compare", action="store_true", help="only time and memory")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        file = scratch / f"random.{'ckpt' if wanted.ckpt else 'safetensors'}"
        source = wanted.source or made(file, *(["--sdxl"] if wanted.sdxl else []))
        compare = not wanted.no_compare
        figures = measured(source.name, source, scratch, rounds=wanted.rounds, dtype=wanted.dtype, compare=compare)
    print(figures, *(figures.differences or ())[:20], sep="\n")
    return int(not figures.is_within_bounds)


if __name__ == "__main__":
    sys.exit(main())
