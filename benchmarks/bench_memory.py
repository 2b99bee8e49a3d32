"""Memory that is too small: a real renderer process is bound to less than its model needs, and renders nevertheless.

    python -m benchmarks.bench_memory [--gigabytes 8 0.5]

The model has the layout of Stable Diffusion 1 and 0.88 GB of random float32 weights in its UNet. For each bound the
program prints what the renderer did to make two images fit, how long they took, and how far its pictures are from those
of the first bound. On a CPU the bound is one of the kernel (RLIMIT_DATA), so that torch really runs out of memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import UNet2DConditionModel
from PIL import Image as Pillow

from benchmarks.bench_render import random_model
from invokeai_daemon.job.plan import Image, ModelRef, Plan
from invokeai_daemon.output.results import Results
from invokeai_daemon.settings import RenderSettings, Settings
from invokeai_daemon.workers.protocol import encode

SIZE, STEPS, IMAGES = 256, 2, 2


def large_model(folder: Path) -> ModelRef:
    """The demo model's text encoder and VAE with a UNet a quarter as large as Stable Diffusion's."""
    random_model(folder)
    widths = (160, 320, 640, 640)
    UNet2DConditionModel(sample_size=64, block_out_channels=widths, cross_attention_dim=64).save_pretrained(
        folder / "unet"
    )
    return ModelRef("large", str(folder), "sd-1", hash="blake3:large")


def plan_of(model: ModelRef) -> Plan:
    numbers = range(1, IMAGES + 1)
    images = (Image(number, number, "a picture", "", SIZE, SIZE, STEPS, 7.5, "euler") for number in numbers)
    return Plan("job", model, tuple(images))


def render(plan: Plan, folder: Path, gigabytes: float) -> list[dict[str, Any]]:
    """The last word on each image, from a renderer with so much memory."""
    Results(folder).begin(plan)
    settings = Settings(render=RenderSettings(device="cpu", precision="float32", memory_gb=gigabytes))
    command = [
        sys.executable,
        "-m",
        "invokeai_daemon.workers.renderer",
        "--settings",
        settings.model_dump_json(by_alias=True),
    ]
    numbers = [image.number for image in plan.images]
    order = {"order": "render", "plan": plan.as_json(), "images": numbers, "folder": str(folder), "alone": False}
    ended: list[dict[str, Any]] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(encode(order))
        process.stdin.flush()
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] in ("published", "image_failed"):
                ended.append(event)
            if len(ended) == len(numbers):
                break
        process.kill()
    return ended


def difference(one: Path, other: Path) -> int:
    pairs = [(file, other / file.name) for file in sorted(one.glob("*.png")) if (other / file.name).exists()]
    pixels = [[np.asarray(Pillow.open(file)).astype(int) for file in pair] for pair in pairs]
    return max((int(np.abs(a - b).max()) for a, b in pixels), default=255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[8, 0.5])
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plan = plan_of(large_model(folder / "model"))
        for gigabytes in wanted.gigabytes:
            started = time.perf_counter()
            ended = render(plan, folder / f"{gigabytes}", gigabytes)
            took = time.perf_counter() - started
            print(f"{gigabytes:g} GB: {took:.0f} s with the start of the process")
            for event in ended:
                print(f"  {event['event']}: {', '.join(event.get('memory', [])) or event.get('error', 'as ever')}")
            away = difference(folder / f"{wanted.gigabytes[0]}", folder / f"{gigabytes}")
            print(f"  largest difference to {wanted.gigabytes[0]:g} GB: {away} of 255")


if __name__ == "__main__":
    main()
