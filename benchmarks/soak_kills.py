"""Kill the daemon or its renderer at random moments, restart, and count: each picture once, none of them cut.

    python -m benchmarks.soak_kills [--kills 10] [--jobs 10] [--images 3] [--seed 1]

The workers are the real ones. A SIGKILL hits the daemon and the renderer by turns; nobody tidies up between.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image

from benchmarks.bench_jobs import COLOURS, DEMO, ENVIRONMENT, SHAPES, done, wait_for
from invokeai_daemon.files import TEMPORARY_PREFIX
from invokeai_daemon.root import Root


def start(root: Root) -> subprocess.Popen[bytes]:
    with (root.path / "daemon.log").open("ab") as log:
        command = [sys.executable, "-m", "invokeai_daemon", "run", "--root", str(root.path)]
        return subprocess.Popen(command, stderr=log, env=ENVIRONMENT)


def drop_jobs(root: Root, jobs: int, images: int) -> None:
    for number in range(jobs):
        hidden = root.inbox / f".job-{number}.part"
        prompt = f"a {COLOURS[number % 8]} {SHAPES[number * 3 % 8]} on a {COLOURS[(number + 3) % 8]} background"
        hidden.write_text(f'prompt = "{prompt}"\nmodel = "demo"\nsteps = 80\niterations = {images}\n')
        hidden.rename(root.inbox / f"job-{number}.toml")


def is_rendering(root: Root, daemon: subprocess.Popen[bytes]) -> bool:
    status = json.loads(root.status_file.read_text()) if root.status_file.exists() else {}
    return status.get("pid") == daemon.pid and bool(status.get("current"))


def kill(root: Root, daemon: subprocess.Popen[bytes], rng: random.Random, is_renderer: bool) -> str:
    """Kill one of them at a random moment, mostly while images are rendered; what was killed."""
    if rng.random() < 0.8:
        wait_for("the renderer", lambda: is_rendering(root, daemon))
    time.sleep(rng.uniform(0.1, 2.5))
    if not is_renderer:
        daemon.kill()
        daemon.wait()
        return "daemon"
    for child in psutil.Process(daemon.pid).children():
        if "invokeai_daemon.workers.renderer" in child.cmdline():
            child.kill()
            return "renderer"
    return "nobody"


def problems(root: Root, jobs: int, images: int) -> list[str]:
    found = []
    for number in range(jobs):
        folder = root.outputs / f"job-{number}"
        pictures = sorted(folder.glob("*.png"))
        numbers = [picture.name.split(".")[0] for picture in pictures]
        if numbers != [f"{place + 1:04}" for place in range(images)]:
            found.append(f"{folder.name}: pictures {numbers}")
        for picture in pictures:
            Image.open(picture).load()
    found += [f"left over: {path}" for path in root.path.rglob(f"{TEMPORARY_PREFIX}*")]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    rng = random.Random(wanted.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Root(Path(folder) / "root")
        root.make()
        for file in DEMO.parent.glob("demo.*"):
            shutil.copy(file, root.autoimport / "main" / file.name)
        drop_jobs(root, wanted.jobs, wanted.images)
        daemon = start(root)
        for turn in range(wanted.kills):
            killed = kill(root, daemon, rng, is_renderer=turn % 2 == 1)
            print(f"kill {turn + 1}: {killed}; {len(list(root.outputs.glob('*/*.png')))} pictures so far", flush=True)
            if daemon.poll() is not None:
                daemon = start(root)
        wait_for("the jobs", lambda: done(root) == wanted.jobs, 600)
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
        found = problems(root, wanted.jobs, wanted.images)
        print("\n".join(found) or f"{wanted.jobs * wanted.images} pictures, each once, none cut, nothing left over")
        raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
