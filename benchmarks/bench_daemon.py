"""The daemon around the renderer: memory, how soon a job is claimed, and how soon `status` answers.

    python -m benchmarks.bench_daemon [--model CHECKPOINT]

A claim is timed from the rename into `inbox/` until the job stands in `inbox/running/` (or has left it again), one job
at a time. `status` is timed as a whole process, with 10,000 jobs done and 1,000 queued, beside an empty interpreter.
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
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from benchmarks.bench_jobs import DEMO, daemon, done, drop, wait_for
from invokeai_daemon.root import Root


def claim_milliseconds(root: Root, count: int) -> list[float]:
    taken = []
    for number in range(count):
        name = f"claim-{number:03}"
        start = time.perf_counter()
        drop(root, name, "a red circle on a blue background", number)
        running, ended = root.inbox / "running" / f"{name}.toml", root.inbox / "done" / f"{name}.toml"
        while not running.exists() and not ended.exists():
            time.sleep(0.0005)
        taken.append((time.perf_counter() - start) * 1e3)
        wait_for(f"the job {name}", ended.exists)
    return taken


def process_milliseconds(command: Sequence[str], count: int = 9) -> float:
    """The median wall time of a command."""
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken)


def fill(root: Root, finished: int, queued: int) -> None:
    """Finished and queued jobs as a long life leaves them (a paused daemon keeps the queue)."""
    for number in range(finished):
        (root.inbox / "done" / f"old-{number:05}.toml").write_text('prompt = "a red circle"\n')
    for number in range(queued):
        (root.inbox / "queued" / f"1000-{number + 1000:08}-next-{number:05}.toml").write_text('prompt = "a star"\n')


def report(what: str, seen: str, must: str) -> None:
    print(f"{what:<52} {seen:<28} must: {must}", flush=True)


def status_rows(root: Root) -> None:
    empty = process_milliseconds([sys.executable, "-I", "-c", "pass"])
    program = Path(sys.executable).with_name("invokeai-daemon")
    seen = process_milliseconds([str(program), "status", "--root", str(root.path)])
    report("status, 10,000 done and 1,000 queued", f"{seen:.0f} ms (python alone {empty:.0f} ms)", "≤ 150 ms")


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEMO)
    parser.add_argument("--claims", type=int, default=50)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Root(Path(folder) / "root")
        root.make()
        shutil.copy(wanted.model, root.autoimport / "main" / "demo.safetensors")
        with daemon(root) as process:
            drop(root, "warm", "warm", 0)
            wait_for("the first picture", lambda: done(root) == 1)
            claims = sorted(claim_milliseconds(root, wanted.claims))
            worst = claims[int(0.99 * len(claims))]
            report("drop → claimed", f"p50 {statistics.median(claims):.1f} ms, p99 {worst:.1f} ms", "p50 ≤ 50 ms")
            (root.inbox / "PAUSE").touch()
            fill(root, 10_000, 1_000)
            seconds = timed(lambda: wait_for("the look at the new files", lambda: is_known(root)))
            report("10,000 done and 1,000 queued jobs known after", f"{seconds:.1f} s", "-")
            status_rows(root)
            memory = psutil.Process(process.pid).memory_info().rss / 2**20
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            report("daemon's resident memory, the queue included", f"{memory:.0f} MiB", "≤ 80 MB")
            report("libtorch mapped by the daemon", str("libtorch" in maps), "False")
        status_rows(root)


def is_known(root: Root) -> bool:
    counts = json.loads(root.status_file.read_text())["jobs"]
    return bool(counts["queued"] == 1000)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
