"""What must not depend on who shares a forward, for tests of any family."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from invokeai_daemon.engine.conditioning import Conditioning
from invokeai_daemon.engine.decode import decode
from invokeai_daemon.engine.denoise import denoise_step, pick
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.job.plan import Image
from tests.engine.build import image
from tests.engine.conftest import Pixels, start_lanes


def render_joining(pipeline: Pipeline, images: Sequence[Image]) -> tuple[list[Pixels], list[int]]:
    """The pictures of images, a new one joining before every step; and how many shared each forward."""
    lanes, shared = start_lanes(pipeline, images), []
    waiting, going = list(lanes), []
    while waiting or going:
        going += [waiting.pop(0)] if waiting else []
        assert pick(going) == going
        assert not denoise_step(going)
        shared.append(len(going))
        going = [lane for lane in going if not lane.is_done]
    return [picture.pixels for lane in lanes for picture in decode([lane])], shared


#: Rows, height and width: so many that torch divides them among threads, and so large that a row alone is, too.
SIZES = ((17, 8, 8), (17, 9, 11), (5, 24, 32))


def assert_rows_are_steady(pipeline: Pipeline, sizes: Sequence[tuple[int, int, int]] = SIZES) -> None:
    """A row of a forward has the same bits with any number of others, on one thread and on two."""
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for size in sizes:
                _compare_rows(pipeline, *size)
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def _compare_rows(pipeline: Pipeline, most: int, height: int, width: int) -> None:
    [lane] = start_lanes(pipeline, [image()])
    told = lane.conditioning
    latents = torch.randn(most, pipeline.denoiser.in_channels, height, width)
    timesteps, texts = torch.randint(1000, (most,)).float(), torch.randn(most, *told.texts.shape[1:])
    added = {name: 100 * torch.rand(most, *rows.shape[1:]) for name, rows in told.added.items()}
    everything = pipeline.denoiser(latents, timesteps, Conditioning(texts, added))
    for rows in sorted({1, 2, 3, min(7, most - 1), most - 1}):
        some = Conditioning(texts[:rows], {name: values[:rows] for name, values in added.items()})
        part = pipeline.denoiser(latents[:rows], timesteps[:rows], some)
        assert torch.equal(part, everything[:rows]), f"{rows} rows of {height}×{width}"


def assert_texts_are_steady(pipeline: Pipeline) -> None:
    """A text has the same bits, encoded alone or with others."""
    texts = ["", "a red circle", "word " * 75, "a green square", "a red star on a blue background"]
    together, alone = pipeline.prompts.encode(texts), {}
    for text in texts:
        pipeline.prompts._known.clear()
        alone.update(pipeline.prompts.encode([text]))
    for text in texts:
        assert torch.equal(alone[text].rows, together[text].rows), text
        assert alone[text].pooled is not None and together[text].pooled is not None
        assert torch.equal(alone[text].pooled, together[text].pooled), text
