"""What identification costs: every room's rows held against headers of about a thousand tensors, in milliseconds.

    python -m benchmarks.bench_models identify

Reading a header costs about as much again; both happen once per file that arrives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from invokeai_daemon.models.header import Header, TensorInfo
from invokeai_daemon.models.identify import FAMILIES, judge
from tests.models.identify import originals

#: Milliseconds of processor time for each 1,000 tensors that a file begins.
BOUND = 4.0
ROUNDS = 15

Shapes = Mapping[str, Sequence[int]]


def lora() -> Shapes:
    """A LoRA for SDXL in kohya's names."""
    shapes: dict[str, Sequence[int]] = {}
    for number in range(10):
        for part in ("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn1_to_out_0", "attn2_to_q", "attn2_to_out_0"):
            for place in ("down_blocks_2_attentions_0", "down_blocks_2_attentions_1", "mid_block_attentions_0"):
                name = f"lora_unet_{place}_transformer_blocks_{number}_{part}"
                shapes |= {f"{name}.alpha": (), f"{name}.lora_down.weight": (16, 1280)}
                shapes[f"{name}.lora_up.weight"] = (1280, 16)
    return shapes


FILES: Mapping[str, Callable[[], Shapes]] = {
    "an SD-1 checkpoint": originals.sd_1,
    "an SDXL checkpoint": originals.sdxl,
    "a FLUX.1 transformer": originals.flux,
    "a LoRA": lora,
    "a text encoder": originals.clip,
    "nothing known": lambda: {f"layer.{number}.weight": (8, 8) for number in range(1000)},
}


def run(scratch: Path) -> bool:
    """Print what each kind of file costs; whether all are within the bound."""
    print(f"{len(FAMILIES)} rows")
    costs = [_cost(what, shapes()) for what, shapes in FILES.items()]
    return max(costs) <= BOUND


def _cost(what: str, shapes: Shapes) -> float:
    tensors = {name: TensorInfo("F16", tuple(shape), 0, 0) for name, shape in shapes.items()}
    header = Header(Path("model.safetensors"), "safetensors", 0, tensors)
    best = min(_seconds(header) for _ in range(ROUNDS))
    print(f"{what:22} {len(tensors):6,} tensors {best * 1e3:7.2f} ms")
    return best * 1e3 / max(1.0, len(tensors) / 1000)


def _seconds(header: Header) -> float:
    start = time.process_time()
    judge(header)
    return time.process_time() - start
