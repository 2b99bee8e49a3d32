"""A mixed queue: sixteen small jobs of different modes, prompts and step counts, together and one by one.

    python -m benchmarks.bench_mixed [--rounds 5]

The jobs are text, img2img, inpainting and variations with the demo model, in one warm renderer. Rounds alternate,
so that a noisy machine disturbs both alike; the ratio of the medians counts. Both ways must give the same pictures.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageDraw

from demo_model.evaluate import BUNDLED
from invokeai_daemon.engine.backlog import Ticket
from invokeai_daemon.engine.render import Renderer
from invokeai_daemon.job.plan import Image, Input, ModelRef, Plan
from invokeai_daemon.job.schema import Init, Mask
from invokeai_daemon.models.convert import convert_model
from invokeai_daemon.models.header import read_header
from invokeai_daemon.models.identify import identify
from invokeai_daemon.output.results import Results
from invokeai_daemon.root import Root
from invokeai_daemon.settings import RenderSettings, Settings

SIZE = 64
SHAPES = ("circle", "square", "star", "heart")
COLOURS = ("red", "green", "yellow", "white")


def demo_model(folder: Path) -> ModelRef:
    """The bundled model as the importer converts it."""
    root = Root(folder / "root")
    root.make()
    header = read_header(BUNDLED)
    converted = convert_model(header, identify(header), root, "demo")
    return ModelRef("demo", str(converted), "sd-1", hash="blake3:demo")


def asked() -> list[Image]:
    """One image for each of the jobs."""
    images = []
    for number in range(16):
        shape, colour = SHAPES[number % 4], COLOURS[number // 4]
        values = [
            {},
            {"init": Init(image="photo.png", strength=0.5 + 0.1 * (number // 4))},
            {"init": Init(image="photo.png", strength=0.9), "mask": Mask(image="mask.png")},
            {"variations": ((900 + number, 0.3),), "perlin": 0.1, "scheduler": "euler_a"},
        ][number % 4]
        common = {
            "number": 1,
            "seed": 100 + number,
            "prompt": f"a {colour} {shape} on a blue background",
            "negative_prompt": "",
            "width": SIZE,
            "height": SIZE,
            "steps": 16 + 2 * (number % 5),
            "cfg_scale": 4.0,
            "scheduler": "dpmpp_2m_k",
        }
        images.append(Image(**{**common, **values}))
    return images


def tickets(model: ModelRef, folder: Path) -> list[Ticket]:
    """A job for each image, with its results folder."""
    made = []
    for number, image in enumerate(asked()):
        inputs = (Input("photo.png", "photo.png", ""), Input("mask.png", "mask.png", ""))
        plan = Plan(f"job-{number:02}", model, (image,), inputs=inputs)
        results = Results(folder / plan.job_id)
        results.folder.mkdir(parents=True)
        draw_inputs(results.folder)
        made.append(Ticket(plan, results.folder))
    return made


def draw_inputs(folder: Path) -> None:
    photo = Pillow.new("RGB", (SIZE, SIZE), (38, 94, 214))
    ImageDraw.Draw(photo).ellipse((16, 16, 48, 48), fill=(212, 42, 48))
    photo.save(folder / "photo.png")
    mask = Pillow.new("L", (SIZE, SIZE), 255)
    ImageDraw.Draw(mask).rectangle((8, 8, 56, 56), fill=0)
    mask.save(folder / "mask.png")


def render(renderer: Renderer, several: Sequence[Ticket]) -> None:
    for ticket in several:
        renderer.add(ticket, ticket.plan.images, False)
    while not renderer.is_idle:
        renderer.turn()
    renderer.finish()


def seconds(renderer: Renderer, model: ModelRef, folder: Path, together: bool) -> float:
    jobs = tickets(model, folder)
    started = time.perf_counter()
    for several in [jobs] if together else [[job] for job in jobs]:
        render(renderer, several)
    return time.perf_counter() - started


def largest_difference(one: Path, other: Path) -> int:
    files = sorted(path.relative_to(one) for path in one.glob("*/0001.*.png"))
    assert len(files) == 16, f"{len(files)} pictures of 16"
    pairs = ((np.asarray(Pillow.open(each / file)).astype(int) for each in (one, other)) for file in files)
    return max(int(np.abs(a - b).max()) for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = demo_model(folder)
        renderer = Renderer(Settings(render=RenderSettings(device="cpu")), torch.device("cpu"), 2, lambda event: None)
        times: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(wanted.rounds + 1):
            for together, taken in times.items():
                took = seconds(renderer, model, folder / f"{turn}-{together}", together)
                if turn:  # the first round warms up
                    taken.append(took)
                    print(f"round {turn}: {'together' if together else 'one by one'} {took:.2f} s", flush=True)
        apart, joined = statistics.median(times[False]), statistics.median(times[True])
        print(f"16 mixed jobs: together {joined:.2f} s, one by one {apart:.2f} s: {apart / joined:.2f} × (must: 1.5 ×)")
        print(
            f"largest difference {largest_difference(folder / '1-True', folder / '1-False')} of 255 (must: at most 2)"
        )


if __name__ == "__main__":
    main()
