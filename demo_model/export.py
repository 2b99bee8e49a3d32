"""Write the trained demo model as one checkpoint in the original Stable Diffusion 1 layout, fp16.

    python -m demo_model.export build/ demo.safetensors             # from the folders that train.py saved
    python -m demo_model.export build/ demo.safetensors --ckpt demo.ckpt

The names come from the tables that the daemon converts with, read backwards.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from invokeai_daemon.models.convert.family import Layout
from invokeai_daemon.models.convert.sd import SD1

#: Where each folder goes in a single file, and under which names.
PARTS: Mapping[str, Layout] = {component.name: component.layouts[0] for component in SD1.components}
#: The VAE stores these as 1×1 convolutions, which diffusers turned into matrices.
CONVOLUTIONS = tuple(f"mid.attn_1.{name}.weight" for name in ("q", "k", "v", "proj_out"))


def single_file(folder: Path, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """The tensors of `unet/`, `vae/` and `text_encoder/` under their names in a single file.

    Raises KeyError when a tensor is missing, ValueError when one is left over.
    """
    merged: dict[str, Tensor] = {}
    for name, layout in PARTS.items():
        merged |= _renamed(layout, _config(folder / name), _weights(folder / name), dtype)
    return {name: merged[name] for name in sorted(merged)}


def _renamed(
    layout: Layout, config: Mapping[str, Any], weights: dict[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    found = {}
    for rename in layout.part.from_config(config).renames():
        tensor = weights.pop(rename.target).to(dtype).contiguous()
        found[layout.prefix + rename.source] = (
            tensor[:, :, None, None] if rename.source.endswith(CONVOLUTIONS) else tensor
        )
    if weights:
        raise ValueError(f"{layout.part.__name__}: no place in a single file for {', '.join(sorted(weights))}")
    return found


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def _weights(folder: Path) -> dict[str, Tensor]:
    (path,) = folder.glob("*.safetensors")
    weights = load_file(path)
    if folder.name != "text_encoder":
        return weights
    # transformers has saved a text tower with and without this prefix.
    return {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in weights.items()}


def write(folder: Path, target: Path, ckpt: Path | None = None) -> None:
    """Write the checkpoint, and the same weights as a pickle checkpoint when `ckpt` is given."""
    tensors = single_file(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, target, metadata={"format": "pt"})
    target.chmod(0o644)  # safetensors makes it readable by its owner only
    if ckpt is not None:
        torch.save({"state_dict": tensors}, ckpt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--ckpt", type=Path)
    wanted = parser.parse_args()
    write(wanted.folder, wanted.target, wanted.ckpt)
    print(f"{wanted.target}: {wanted.target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
