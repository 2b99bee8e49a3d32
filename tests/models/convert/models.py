"""Small models of every family that is converted: the true layout and structure, widths of a few channels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from invokeai_daemon.models.convert.clip import Clip, OpenClip, OpenClipProjected
from invokeai_daemon.models.convert.controlnet import ControlNet, DiffusersControlNet
from invokeai_daemon.models.convert.families import family_of
from invokeai_daemon.models.convert.layout import Part, Shape
from invokeai_daemon.models.convert.unet import UNet, XlUNet
from invokeai_daemon.models.convert.vae import DiffusersVae, Vae
from invokeai_daemon.models.header import BITS
from invokeai_daemon.models.identity import Identity

#: The tokenizer's words.
WORDS = 49408

UNET_1 = UNet(4, 4, widths=(32, 64), attention=(1, 0), depth=1, context=64)
UNET_2 = UNet(4, 4, widths=(64, 128), attention=(1, 0), depth=1, context=64, linear=True)
UNET_XL = XlUNet(
    4, 4, (32, 64, 128), attention=(0, 2, 3), depth=2, context=320, middle=3, linear=True, vector=64 + 6 * 256
)
UNET_REFINER = XlUNet(
    4, 4, (32, 64, 64), attention=(0, 2, 0), depth=1, context=128, middle=2, linear=True, vector=64 + 5 * 256
)
VAE = Vae(3, 3, 4, widths=(8, 16), depth=1)
SMALL_CLIP = Clip(WORDS, 77, width=768 // 12, layers=2, inner=32)
CLIP_2 = OpenClip(WORDS, 77, width=64, layers=3, inner=32)
LARGE_CLIP = OpenClipProjected(WORDS, 77, width=128, layers=2, inner=32, projection=64)
CONTROLNET_1 = ControlNet(XlUNet(**vars(replace(UNET_1, out_channels=0))), 3, (4, 8, 12, 16))
CONTROLNET_XL = ControlNet(replace(UNET_XL, out_channels=0), 3, (4, 8, 12, 16))


@dataclass(frozen=True)
class Small:
    identity: Identity
    #: By the component's name.
    parts: Mapping[str, Part]
    #: Before all names, where the table has several.
    prefix: str | None = None

    def tensors(self, dtype: str = "F16") -> dict[str, tuple[str, Shape]]:
        """Under their names in the single file, with the shapes that they have there."""
        family = family_of(self.identity)
        assert family is not None
        found = {}
        for component in family.of_variant(self.identity.variant):
            part = self.parts.get(component.name)
            if part is None:
                continue
            prefixes = [layout.prefix for layout in component.layouts if layout.part is type(part)]
            prefix = prefixes[0] if self.prefix is None else self.prefix
            assert prefix in prefixes
            for rename in part.renames():
                for rows in rename.rows:
                    is_convolution = isinstance(part, Vae) and ".attn_1." in rows.source and len(rows.shape) == 2
                    found[prefix + rows.source] = (dtype, (*rows.shape, 1, 1) if is_convolution else rows.shape)
        return dict(sorted(found.items()))

    def with_few_words(self) -> Small:
        """The same with text encoders that a tokenizer could not serve, and whose tables cost no time."""
        few = {name: replace(part, vocabulary=9) for name, part in self.parts.items() if isinstance(part, Clip)}
        return replace(self, parts={**self.parts, **few})


def main(base: str, parts: Mapping[str, Part], variant: str = "normal", predicts: str = "epsilon") -> Small:
    return Small(Identity("main", base, "checkpoint", variant, predicts), parts)


def _one(base: str, unet: UNet, clip: Part) -> dict[str, Part]:
    return {"unet": unet, "vae": VAE, "text_encoder": clip}


def _xl(unet: UNet) -> dict[str, Part]:
    return {"unet": unet, "vae": VAE, "text_encoder": replace(SMALL_CLIP, width=192), "text_encoder_2": LARGE_CLIP}


def _alone(base: str, kind: str, part: Part, prefix: str = "") -> Small:
    return Small(Identity(kind, base, "checkpoint"), {kind: part}, prefix)


SD_1 = main("sd-1", _one("sd-1", UNET_1, SMALL_CLIP))
SDXL = main("sdxl", _xl(UNET_XL))

MODELS: Mapping[str, Small] = {
    "sd-1": SD_1,
    "sd-1 inpaint": main("sd-1", _one("sd-1", replace(UNET_1, in_channels=9), SMALL_CLIP), "inpaint"),
    "sd-1 edit": main("sd-1", _one("sd-1", replace(UNET_1, in_channels=8), SMALL_CLIP), "edit"),
    "sd-2 512": main("sd-2", _one("sd-2", UNET_2, CLIP_2)),
    "sd-2 768": main("sd-2", _one("sd-2", UNET_2, CLIP_2), predicts="v_prediction"),
    "sd-2 inpaint": main("sd-2", _one("sd-2", replace(UNET_2, in_channels=9), CLIP_2), "inpaint"),
    "sd-2 depth": main("sd-2", _one("sd-2", replace(UNET_2, in_channels=5), CLIP_2), "depth"),
    "sdxl": SDXL,
    "sdxl inpaint": main("sdxl", _xl(replace(UNET_XL, in_channels=9)), "inpaint"),
    "sdxl edit": main("sdxl", _xl(replace(UNET_XL, in_channels=8)), "edit"),
    "sdxl-refiner": main("sdxl-refiner", {"unet": UNET_REFINER, "vae": VAE, "text_encoder_2": LARGE_CLIP}),
}
ALONE: Mapping[str, Small] = {
    "vae": _alone("sd-1", "vae", VAE, "first_stage_model."),
    "diffusers vae": _alone("sd-1", "vae", DiffusersVae(3, 3, 4, widths=(8, 16), depth=1)),
    "old diffusers vae": _alone("sd-1", "vae", DiffusersVae(3, 3, 4, widths=(8, 16), depth=1, old_names=True)),
    "sdxl vae": _alone("sdxl", "vae", VAE),
    "controlnet": _alone("sd-1", "controlnet", CONTROLNET_1, "control_model."),
    "sdxl controlnet": _alone("sdxl", "controlnet", CONTROLNET_XL),
    "diffusers controlnet": _alone("sd-1", "controlnet", DiffusersControlNet(**vars(CONTROLNET_1))),
    "diffusers sdxl controlnet": _alone("sdxl", "controlnet", DiffusersControlNet(**vars(CONTROLNET_XL))),
}


def write(path: Path, tensors: Mapping[str, tuple[str, Shape]], seed: int = 0) -> Path:
    """A safetensors file of small finite values, in the order of the mapping."""
    entries, position = {}, 0
    for name, (dtype, shape) in tensors.items():
        end = position + math.prod(shape) * BITS[dtype] // 8
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for place, (dtype, shape) in enumerate(tensors.values()):
            file.write(_values(dtype, math.prod(shape), seed + place))
    return path


def _values(dtype: str, count: int, seed: int) -> bytes:
    values = np.random.default_rng(seed).standard_normal(count, dtype=np.float32) * 0.05
    if dtype == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return values.astype({"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64}[dtype]).tobytes()
