"""Where and how precisely to compute: the device, and the number type that is fastest there without losing pictures.

Called when the renderer starts and when a model is loaded. The probe of a device runs once per process.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch
from torch import Tensor

from invokeai_daemon.errors import RenderError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
#: Below this many parameters, calls cost more than arithmetic: short types gain nothing, and their rounding shows.
SMALL_MODEL = 50_000_000
#: bfloat16 must beat float32 by this much. Processors with the instructions reach 2 to 8, those without stay below 1,
#: so a busy machine does not tip the choice, and a job rendered again gets the same type.
WORTHWHILE = 1.4


def choose_device(wanted: str) -> torch.device:
    """The device that a setting names (auto, cpu, cuda, cuda:N, mps). Raises RenderError when it is absent."""
    if wanted == "auto":
        return torch.device(_best_device())
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RenderError(
            f'[render] device is "{wanted}", but torch {torch.__version__} sees {torch.cuda.device_count()} CUDA '
            'devices. Check the driver with `invokeai-daemon doctor`, or set device = "auto".'
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise RenderError('[render] device is "mps", but torch has no Metal device here. Set device = "auto".')
    return device


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose_dtype(
    wanted: str, device: torch.device, parameters: int, accelerated: torch.dtype = torch.float16
) -> torch.dtype:
    """The number type for a model of so many parameters. `wanted` is `auto`, `float32`, `bfloat16` or `float16`.

    `accelerated` is what its kind computes with on an accelerator.
    """
    if wanted != "auto":
        return DTYPES[wanted]
    if parameters < SMALL_MODEL:
        return torch.float32
    if device.type == "cpu":
        return torch.bfloat16 if bfloat16_gain() >= WORTHWHILE else torch.float32
    return accelerated


@functools.cache
def bfloat16_gain() -> float:
    """How many times faster this CPU convolves and multiplies in bfloat16 than in float32. Takes under a second."""
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    work = {dtype: _sample_work(dtype) for dtype in best}
    for run in work.values():
        run()
    # Interleaved, and the best of each: other load on the machine then hits both alike.
    for _ in range(4):
        for dtype, run in work.items():
            best[dtype] = min(best[dtype], _seconds(run))
    return best[torch.float32] / best[torch.bfloat16]


def _sample_work(dtype: torch.dtype) -> Callable[[], Tensor]:
    """A convolution and a product of the sizes that dominate Stable Diffusion's UNet."""
    pixels, kernel = torch.ones(2, 320, 32, 32, dtype=dtype), torch.ones(320, 320, 3, 3, dtype=dtype)
    rows, matrix = torch.ones(1024, 640, dtype=dtype), torch.ones(640, 1280, dtype=dtype)

    @torch.inference_mode()
    def run() -> Tensor:
        torch.nn.functional.conv2d(pixels, kernel, padding=1)
        return rows @ matrix

    return run


def _seconds(run: Callable[[], Tensor]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
