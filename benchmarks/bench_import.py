"""Import a full-size SD-1.5 checkpoint: how long it takes beside `cp`, how much memory, and whether it is right.

    python -m benchmarks.bench_import                     # makes a random one of 2.1 GB in the temporary folder
    python -m benchmarks.bench_import my.safetensors      # any SD-1 checkpoint
    python -m benchmarks.bench_import --ckpt --no-compare

The importer is the real one, in its own process, from start to the `imported` event with all files on disk.
Every tensor is then compared with what diffusers' own conversion writes. Needs 9 GB of disk and 5 GB of memory.
Fails (exit code 1) when a bound is exceeded or a tensor differs.
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
from dataclasses import dataclass
from pathlib import Path

from invokeai_daemon.root import Root

#: Bounds: seconds = FACTOR × cp + SECONDS, and MiB.
FACTOR, SECONDS, MEMORY_MB = 1.5, 4.0, 700


@dataclass
class Imported:
    folder: Path
    #: From the start of the process to its end.
    seconds: float
    #: Highest resident set of the importer, MiB.
    peak_mb: float


def seconds_of_cp(source: Path, folder: Path) -> float:
    """`cp` as it is: it does not wait for the disk, which the importer does."""
    target = folder / "copy"
    os.sync()
    started = time.perf_counter()
    subprocess.run(["cp", source, target], check=True)
    seconds = time.perf_counter() - started
    target.unlink()
    return seconds


def run_importer(source: Path, root: Root) -> Imported:
    """Import into a new root, by the importer in a process of its own."""
    root.make()
    os.sync()
    order = {"order": "import", "path": str(source), "root": str(root.path)}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "invokeai_daemon.workers.importer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.close()
    events = [json.loads(line) for line in process.stdout]
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if events[-1]["event"] != "imported":
        raise SystemExit(f"not imported: {events[-1]}")
    return Imported(Path(events[-1]["entry"]["path"]), seconds, usage.ru_maxrss / 1024)


def differences(source: Path, ours: Path, scratch: Path) -> list[str]:
    """What differs between our folder and the one that diffusers writes from the same file."""
    import torch
    from diffusers import StableDiffusionPipeline

    # The extra arguments say that there is no safety checker to look for.
    pipeline = StableDiffusionPipeline.from_single_file(
        str(source), config=str(ours), torch_dtype=torch.float16, local_files_only=True, safety_checker=None
    )
    pipeline.save_pretrained(scratch)
    del pipeline
    theirs = sorted(path.relative_to(scratch) for path in scratch.rglob("*.safetensors"))
    mine = sorted(path.relative_to(ours) for path in ours.rglob("*.safetensors"))
    if theirs != mine:
        return [f"files: {mine}, diffusers writes {theirs}"]
    return [text for name in mine for text in _differing_tensors(ours / name, scratch / name)]


def _differing_tensors(mine: Path, theirs: Path) -> list[str]:
    import torch
    from safetensors import safe_open

    found = []
    with safe_open(mine, "pt") as one, safe_open(theirs, "pt") as other:
        names = {name.removeprefix("text_model."): name for name in one.keys()}  # noqa: SIM118 (no mapping)
        others = {name.removeprefix("text_model."): name for name in other.keys()}  # noqa: SIM118
        found += [f"{mine.parent.name}: {name} is only in one of them" for name in names.keys() ^ others.keys()]
        for name in names.keys() & others.keys():
            if not torch.equal(one.get_tensor(names[name]), other.get_tensor(others[name])):
                found.append(f"{mine.parent.name}: {name} differs")
    print(f"{mine.parent.name}: {len(names)} tensors compared")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--ckpt", action="store_true", help="make a pickle checkpoint instead of safetensors")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-compare", action="store_true", help="only time and memory")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        return report(wanted, Path(name))


def report(wanted: argparse.Namespace, scratch: Path) -> int:
    source = wanted.source or _made(scratch / f"random.{'ckpt' if wanted.ckpt else 'safetensors'}")
    copies, imports = _measured(source, scratch, wanted.rounds)
    last = imports[-1]
    wrong = [] if wanted.no_compare else differences(source, last.folder, scratch / "diffusers")
    copy, seconds = statistics.median(copies), statistics.median(imported.seconds for imported in imports)
    allowed, peak = FACTOR * copy + SECONDS, max(imported.peak_mb for imported in imports)
    figures = {
        "gigabytes": round(source.stat().st_size / 1e9, 2),
        "cp_seconds": round(copy, 2),
        "import_seconds": round(seconds, 2),
        "allowed_seconds": round(allowed, 2),
        "peak_mb": round(peak),
        "differences": None if wanted.no_compare else len(wrong),
    }
    print(json.dumps(figures), *wrong[:20], sep="\n")
    return int(bool(wrong) or seconds > allowed or peak > MEMORY_MB)


def _measured(source: Path, scratch: Path, rounds: int) -> tuple[list[float], list[Imported]]:
    """By turns, so that a noisy machine disturbs both alike; a first copy, not counted, warms the page cache."""
    seconds_of_cp(source, scratch)
    copies: list[float] = []
    imports: list[Imported] = []
    for number in range(rounds):
        copies.append(seconds_of_cp(source, scratch))
        if imports:
            shutil.rmtree(scratch / f"root-{number - 1}")
        imports.append(run_importer(source, Root(scratch / f"root-{number}")))
    return copies, imports


def _made(path: Path) -> Path:
    subprocess.run([sys.executable, "-m", "benchmarks.make_checkpoint", str(path)], check=True)
    return path


if __name__ == "__main__":
    sys.exit(main())
