"""Write a checkpoint with the exact layout of Stable Diffusion 1.5 and random weights: 2.1 GB in fp16.

    python -m benchmarks.make_checkpoint /tmp/random-sd15.safetensors
    python -m benchmarks.make_checkpoint /tmp/random-sd15.ckpt            # the same as a pickle checkpoint
    python -m benchmarks.make_checkpoint /tmp/inpaint.safetensors --inpaint

Values are finite and of the size of real weights, so that a render with them runs; the picture is noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from invokeai_daemon.models.convert.clip import Clip
from invokeai_daemon.models.convert.layout import Part, Shape
from invokeai_daemon.models.convert.sd import SD1
from invokeai_daemon.models.convert.unet import UNet
from invokeai_daemon.models.convert.vae import Vae

UNET = UNet(
    in_channels=4,
    out_channels=4,
    widths=(320, 640, 1280, 1280),
    attention=(True, True, True, False),
    depth=2,
    context=768,
)
VAE = Vae(in_channels=3, out_channels=3, latent_channels=4, widths=(128, 256, 512, 512), depth=2)
CLIP = Clip(vocabulary=49408, positions=77, width=768, layers=12, inner=3072)

#: What real files carry besides: name -> dtype and shape.
OTHERS: Mapping[str, tuple[str, Shape]] = {
    "alphas_cumprod": ("F32", (1000,)),
    "betas": ("F32", (1000,)),
    "cond_stage_model.transformer.text_model.embeddings.position_ids": ("I64", (1, 77)),
}
BYTES = {"I64": 8, "F32": 4, "F16": 2}


def layout(parts: tuple[Part, ...] = (UNET, VAE, CLIP)) -> dict[str, tuple[str, Shape]]:
    """Name, dtype and shape of every tensor, in the order in which safetensors writes them."""
    found = dict(OTHERS)
    prefixes = {layout.part: layout.prefix for part in SD1.components for layout in reversed(part.layouts)}
    for part in parts:
        for rename in part.renames():
            shape = rename.shape
            if ".mid.attn_1." in rename.source and len(shape) == 2:
                shape = (*shape, 1, 1)  # 1×1 convolutions in the single file
            found[prefixes[type(part)] + rename.source] = ("F16", shape)
    return dict(sorted(found.items(), key=lambda item: (-BYTES[item[1][0]], item[0])))


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, Shape]], seed: int = 0) -> None:
    """Write the file piece by piece; memory holds one tensor."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, (dtype, shape) in tensors.items():
        end = position + BYTES[dtype] * int(np.prod(shape))
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for piece in _values(tensors, np.random.default_rng(seed)):
            file.write(piece)


def _values(tensors: Mapping[str, tuple[str, Shape]], rng: np.random.Generator) -> Iterator[bytes]:
    for dtype, shape in tensors.values():
        count = int(np.prod(shape))
        if dtype == "F16":
            # Any sign, an exponent of 2⁻⁶ … 2⁻⁵, any mantissa: a tenth of the time that normal values take.
            bits = rng.integers(0, 1 << 16, count, dtype=np.uint16)
            yield ((bits & 0x83FF) | 0x2400).tobytes()
        else:
            yield np.arange(count, dtype={"F32": np.float32, "I64": np.int64}[dtype]).tobytes()


def write_pickle(path: Path, safetensors: Path) -> None:
    """The same tensors as `torch.save` writes them."""
    import torch
    from safetensors.torch import load_file

    torch.save({"state_dict": load_file(safetensors), "global_step": 840000}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="ends in .safetensors or .ckpt")
    parser.add_argument("--inpaint", action="store_true", help="nine input channels")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    unet = replace(UNET, in_channels=9) if wanted.inpaint else UNET
    plain = wanted.path.with_suffix(".safetensors")
    write_safetensors(plain, layout((unet, VAE, CLIP)), wanted.seed)
    if wanted.path.suffix == ".ckpt":
        write_pickle(wanted.path, plain)
        plain.unlink()
    print(f"{wanted.path}: {wanted.path.stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
