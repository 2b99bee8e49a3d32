"""Many small jobs dropped at once: the whole daemon against a plain diffusers loop over the same prompts.

    python -m benchmarks.bench_jobs [--jobs 100] [--rounds 3]

Both sides are warm (model loaded, one picture made). The daemon's time runs from the first rename into the inbox to the
moment when the last job stands in `inbox/done/`: parsing, queueing, metadata, fsync and all. The loop's time includes
saving its pictures. Rounds alternate, so that a noisy machine disturbs both alike.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from invokeai_daemon.root import Root

DEMO = Path(__file__).parent.parent / "invokeai_daemon" / "data" / "demo.safetensors"
#: Nothing but the jobs is rendered.
ENVIRONMENT = {**os.environ, "INVOKEAI_DAEMON_IMPORT_THUMBNAILS": "false"}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "moon", "cross")

PLAIN_LOOP = """
import json, sys, time, torch
from diffusers import StableDiffusionPipeline, EulerDiscreteScheduler
torch.set_num_threads({threads})
pipe = StableDiffusionPipeline.from_pretrained({model!r}, safety_checker=None, requires_safety_checker=False)
pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
pipe.set_progress_bar_config(disable=True)
def render(prompt, seed):
    return pipe(prompt, negative_prompt="", width=64, height=64, num_inference_steps=4, guidance_scale=7.5,
                generator=torch.Generator("cpu").manual_seed(seed)).images[0]
render("warm", 0)
print("ready", flush=True)
for line in sys.stdin:
    prompts = json.loads(line)
    start = time.perf_counter()
    for seed, prompt in enumerate(prompts):
        render(prompt, seed).save({folder!r} + f"/{{seed:04}}.png")
    print(time.perf_counter() - start, flush=True)
"""


def prompts(count: int, turn: int) -> list[str]:
    return [
        f"a {COLOURS[(i + turn) % 8]} {SHAPES[i // 8 % 8]} on a {COLOURS[(i + turn + 3) % 8]} background, picture {i}"
        for i in range(count)
    ]


@contextlib.contextmanager
def daemon(root: Root) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "invokeai_daemon", "run", "--root", str(root.path)]
    with (
        (root.path / "daemon.log").open("wb") as log,
        subprocess.Popen(command, stderr=log, env=ENVIRONMENT) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def wait_for(what: str, condition: object, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end:
            raise SystemExit(f"{what} took longer than {seconds:g} s")
        time.sleep(0.005)


def drop(root: Root, name: str, prompt: str, seed: int) -> None:
    text = (
        f'prompt = "{prompt}"\nmodel = "demo"\nwidth = 64\nheight = 64\nsteps = 4\n'
        f'cfg_scale = 7.5\nscheduler = "euler"\nseed = {seed}\n'
    )
    hidden = root.inbox / f".{name}.toml.part"
    hidden.write_text(text)
    hidden.rename(root.inbox / f"{name}.toml")


def done(root: Root) -> int:
    return sum(1 for entry in os.scandir(root.inbox / "done") if entry.name.endswith(".toml"))


def daemon_seconds(root: Root, turn: int, count: int) -> float:
    before = done(root)
    start = time.perf_counter()
    for seed, prompt in enumerate(prompts(count, turn)):
        drop(root, f"turn{turn}-{seed:04}", prompt, seed)
    wait_for("the jobs", lambda: done(root) >= before + count)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, default=DEMO)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Root(Path(folder) / "root")
        root.make()
        shutil.copy(wanted.model, root.autoimport / "main" / "demo.safetensors")
        with daemon(root):
            drop(root, "warm", "warm", 0)
            wait_for("the first picture", lambda: done(root) == 1)
            compare(root, Path(folder), wanted.jobs, wanted.rounds)


def compare(root: Root, folder: Path, count: int, rounds: int) -> None:
    (folder / "plain").mkdir()
    model, pictures = str(root.models / "sd-1/main/demo"), str(folder / "plain")
    command = [sys.executable, "-c", PLAIN_LOOP.format(model=model, folder=pictures, threads=os.cpu_count())]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null, text=True) as plain:
        assert plain.stdin is not None and plain.stdout is not None
        assert plain.stdout.readline().strip() == "ready"
        ratios = []
        for turn in range(rounds):
            plain.stdin.write(json.dumps(prompts(count, turn)) + "\n")
            plain.stdin.flush()
            loop = float(plain.stdout.readline())
            ours = daemon_seconds(root, turn, count)
            ratios.append(ours / loop)
            each = 1e3 / count
            print(f"loop {loop * each:.0f} ms per job, daemon {ours * each:.0f} ms, ratio {ratios[-1]:.2f}")
        print(f"median ratio {statistics.median(ratios):.2f} (must: at most 0.60)")
        plain.stdin.close()


if __name__ == "__main__":
    main()
