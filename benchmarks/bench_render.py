"""The engine against a plain diffusers loop, in one process: many small images, and four iterations of one job.

    python -m benchmarks.bench_render [--model FOLDER] [--images 100] [--rounds 3]

Without a model the demo model's architecture with random weights is measured; the time does not depend on the weights.
Both sides are warm, see new prompts in every round, and write their pictures to disk. Rounds alternate, so that a noisy
machine disturbs both alike; the ratio of the medians counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, PNDMScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer

from invokeai_daemon.engine.backlog import Ticket
from invokeai_daemon.engine.render import Renderer
from invokeai_daemon.job.plan import Image, ModelRef, Plan
from invokeai_daemon.models.tokenizer import write_clip_tokenizer
from invokeai_daemon.output.results import Results
from invokeai_daemon.settings import RenderSettings, Settings


def random_model(folder: Path) -> Path:
    from demo_model.train import new_text_encoder, new_unet, new_vae

    write_clip_tokenizer(folder / "tokenizer")
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    pipeline = StableDiffusionPipeline(
        vae=new_vae().eval(),
        text_encoder=new_text_encoder().eval(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=new_unet().eval(),
        scheduler=PNDMScheduler(**schedule, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def images_of(count: int, turn: int, size: int, steps: int) -> list[Image]:
    return [
        Image(number, 1000 * turn + number, f"picture {turn} {number}", "", size, size, steps, 7.5, "euler")
        for number in range(1, count + 1)
    ]


class Plain:
    """diffusers' own pipeline, one image after the other."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.folder = folder
        self.pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None, local_files_only=True)
        self.pipeline.scheduler = EulerDiscreteScheduler.from_config(self.pipeline.scheduler.config)
        self.pipeline.set_progress_bar_config(disable=True)

    def render(self, images: list[Image]) -> None:
        for image in images:
            picture = self.pipeline(
                image.prompt,
                negative_prompt=image.negative_prompt,
                width=image.width,
                height=image.height,
                num_inference_steps=image.steps,
                guidance_scale=image.cfg_scale,
                generator=torch.Generator("cpu").manual_seed(image.seed),
            ).images[0]
            picture.save(self.folder / f"{image.seed}.png")


class Ours:
    """The renderer of this package; metadata and publication included."""

    def __init__(self, model: Path, folder: Path, cores: int) -> None:
        self.model, self.folder = ModelRef("benchmark", str(model), "sd-1"), folder
        self.events: list[dict[str, Any]] = []
        settings = Settings(render=RenderSettings(device="cpu"))
        self.renderer = Renderer(settings, torch.device("cpu"), cores, self.events.append)

    def add(self, images: list[Image]) -> None:
        name = f"job-{images[0].seed}-{len(images)}-{images[0].steps}"
        ticket = Ticket(Plan(name, self.model, tuple(images)), self.folder / name)
        Results(ticket.folder).begin(ticket.plan)
        self.renderer.add(ticket, images, alone=False)

    def work_off(self) -> None:
        while not self.renderer.is_idle:
            self.renderer.turn()
        self.renderer.finish()
        failed = [event for event in self.events if event["event"] == "image_failed"]
        if failed:
            raise SystemExit(f"an image failed: {failed[0]['error']}")

    def render_as_jobs(self, images: list[Image]) -> None:
        """Each image is a job of its own."""
        for image in images:
            self.add([image])
        self.work_off()

    def render_together(self, images: list[Image]) -> None:
        self.add(images)
        self.work_off()

    def render_singly(self, images: list[Image]) -> None:
        for image in images:
            self.add([image])
            self.work_off()


def compare(
    title: str,
    one: Callable[[int], None],
    other: Callable[[int], None],
    names: tuple[str, str],
    rounds: int,
    count: int,
) -> None:
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for side, run in zip(seconds, (one, other), strict=True):
            started = time.perf_counter()
            run(turn)
            side.append(time.perf_counter() - started)
    first, second = (statistics.median(side) / count * 1e3 for side in seconds)
    print(f"{title}: {names[0]} {first:.1f} ms/image, {names[1]} {second:.1f} ms/image, ratio {second / first:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a diffusers folder")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = wanted.model or random_model(folder / "model")
        measure(model, folder, wanted.images, wanted.rounds, wanted.threads)


def measure(model: Path, folder: Path, count: int, rounds: int, threads: int) -> None:
    plain, ours = Plain(model, folder), Ours(model, folder, threads)

    def plainly(images: list[Image]) -> None:
        # The engine sets its own number for a model this small; the loop gets all.
        torch.set_num_threads(threads)
        plain.render(images)

    plainly(images_of(2, 900, 64, 4))
    ours.render_as_jobs(images_of(2, 901, 64, 4))
    compare(
        f"{count} jobs of 64 px and 4 steps",
        lambda turn: plainly(images_of(count, turn, 64, 4)),
        lambda turn: ours.render_as_jobs(images_of(count, turn, 64, 4)),
        ("plain loop", "engine"),
        rounds,
        count,
    )
    compare(
        "4 iterations of 128 px and 20 steps",
        lambda turn: ours.render_singly(images_of(4, 100 + turn, 128, 20)),
        lambda turn: ours.render_together(images_of(4, 200 + turn, 128, 20)),
        ("four single runs", "iterations = 4"),
        rounds,
        4,
    )


if __name__ == "__main__":
    main()
