"""Write a checkpoint with the exact layout of a published model and random weights, in fp16.

    python -m benchmarks.make_checkpoint /tmp/random-sd15.safetensors            # Stable Diffusion 1.5, 2.1 GB
    python -m benchmarks.make_checkpoint /tmp/random-sdxl.safetensors --sdxl     # SDXL, 6.9 GB
    python -m benchmarks.make_checkpoint /tmp/random-sd15.ckpt                   # the same as a pickle checkpoint
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

from invokeai_daemon.models.convert.clip import Clip, OpenClip, OpenClipProjected
from invokeai_daemon.models.convert.controlnet import ControlNet
from invokeai_daemon.models.convert.families import FAMILIES
from invokeai_daemon.models.convert.layout import Part, Shape
from invokeai_daemon.models.convert.unet import UNet, XlUNet
from invokeai_daemon.models.convert.vae import Vae

UNET = UNet(
    in_channels=4,
    out_channels=4,
    widths=(320, 640, 1280, 1280),
    attention=(1, 1, 1, 0),
    depth=2,
    context=768,
)
VAE = Vae(in_channels=3, out_channels=3, latent_channels=4, widths=(128, 256, 512, 512), depth=2)
CLIP = Clip(vocabulary=49408, positions=77, width=768, layers=12, inner=3072)

UNET_2 = replace(UNET, context=1024, linear=True)
CLIP_2 = OpenClip(vocabulary=49408, positions=77, width=1024, layers=23, inner=4096)

#: The condition: a pooled text, and six numbers (five of the refiner) of 256 channels each.
UNET_XL = XlUNet(
    in_channels=4,
    out_channels=4,
    widths=(320, 640, 1280),
    attention=(0, 2, 10),
    depth=2,
    context=2048,
    middle=10,
    linear=True,
    vector=1280 + 6 * 256,
)
UNET_REFINER = XlUNet(
    in_channels=4,
    out_channels=4,
    widths=(384, 768, 1536, 1536),
    attention=(0, 4, 4, 0),
    depth=2,
    context=1280,
    middle=4,
    linear=True,
    vector=1280 + 5 * 256,
)
CLIP_XL = OpenClipProjected(vocabulary=49408, positions=77, width=1280, layers=32, inner=5120, projection=1280)

CONTROLNET = ControlNet(XlUNet(**{**vars(UNET), "out_channels": 0}), hint_channels=3, hint_widths=(16, 32, 96, 256))
CONTROLNET_XL = replace(CONTROLNET, unet=replace(UNET_XL, out_channels=0))

#: Base -> its parts by their name in model_index.json.
MODELS: Mapping[str, Mapping[str, Part]] = {
    "sd-1": {"unet": UNET, "vae": VAE, "text_encoder": CLIP},
    "sd-2": {"unet": UNET_2, "vae": VAE, "text_encoder": CLIP_2},
    "sdxl": {"unet": UNET_XL, "vae": VAE, "text_encoder": CLIP, "text_encoder_2": CLIP_XL},
    "sdxl-refiner": {"unet": UNET_REFINER, "vae": VAE, "text_encoder_2": CLIP_XL},
}
#: What real files carry besides: name -> dtype and shape.
OTHERS: Mapping[str, Mapping[str, tuple[str, Shape]]] = {
    "sd-1": {
        "alphas_cumprod": ("F32", (1000,)),
        "betas": ("F32", (1000,)),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": ("I64", (1, 77)),
    },
    "sdxl": {
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": ("I64", (1, 77)),
        "conditioner.embedders.1.model.logit_scale": ("F16", ()),
    },
}
BYTES = {"I64": 8, "F32": 4, "F16": 2}


def layout(base: str, parts: Mapping[str, Part] | None = None) -> dict[str, tuple[str, Shape]]:
    """Name, dtype and shape of every tensor, in the order in which safetensors writes them."""
    found = dict(OTHERS.get(base, {}))
    (family,) = [family for family in FAMILIES if (family.base, family.type) == (base, "main")]
    prefixes = {part.name: part.layouts[0].prefix for part in family.components if part.layouts}
    for name, part in (parts or MODELS[base]).items():
        for rename in part.renames():
            for rows in rename.rows:
                is_convolution = ".mid.attn_1." in rows.source and len(rows.shape) == 2
                found[prefixes[name] + rows.source] = ("F16", (*rows.shape, 1, 1) if is_convolution else rows.shape)
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
    parser.add_argument("--sdxl", action="store_true", help="SDXL instead of Stable Diffusion 1.5")
    parser.add_argument("--inpaint", action="store_true", help="nine input channels")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    base = "sdxl" if wanted.sdxl else "sd-1"
    parts = dict(MODELS[base])
    if wanted.inpaint:
        parts["unet"] = replace(UNET_XL, in_channels=9) if wanted.sdxl else replace(UNET, in_channels=9)
    plain = wanted.path.with_suffix(".safetensors")
    write_safetensors(plain, layout(base, parts), wanted.seed)
    if wanted.path.suffix == ".ckpt":
        write_pickle(wanted.path, plain)
        plain.unlink()
    print(f"{wanted.path}: {wanted.path.stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
