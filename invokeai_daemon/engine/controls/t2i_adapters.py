"""T2I-Adapters: small models that make features of a control picture, once, which are added in every step.

Loaded once and kept beside the pipelines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.adapter import T2IAdapter as T2IAdapterModel
from PIL import Image
from torch import Tensor

from invokeai_daemon.engine.controls.pictures import as_tensor, fitted
from invokeai_daemon.engine.controls.t2i_files import adapter_of
from invokeai_daemon.engine.loading.parts import bring, bytes_of, read_part
from invokeai_daemon.engine.loading.steady import make_steady
from invokeai_daemon.engine.loading.weights import read_tensors
from invokeai_daemon.job.schema import T2IAdapter
from invokeai_daemon.models.header import read_header


@dataclass(frozen=True, eq=False)
class Adapter:
    """A loaded T2I-Adapter."""

    #: diffusers' model.
    model: Any
    size: int

    def size_for(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size nearest above a result's that the adapter can divide; its features then fit the UNet's."""
        step = self.model.downscale_factor
        width, height = (-(-side // step) * step for side in size)
        return width, height


def load_adapter(path: Path, base: str, dtype: torch.dtype, device: torch.device) -> Adapter:
    """A T2I-Adapter from its diffusers folder or its file. Raises what the loading libraries raise."""
    model = read_part(T2IAdapterModel, path, dtype) if path.is_dir() else _of_file(path, base).to(dtype)
    if device.type == "cpu":
        make_steady(model)
    bring(model, device)
    return Adapter(model, bytes_of(model))


def _of_file(path: Path, base: str) -> Any:
    header = read_header(path)
    words, tensors = adapter_of(read_tensors(header, header.tensors), base)
    model = T2IAdapterModel(**words)
    model.load_state_dict(tensors)
    return model.requires_grad_(False).eval()


@dataclass(frozen=True, eq=False)
class Features:
    """What a T2I-Adapter makes of one lane's picture."""

    asked: T2IAdapter
    adapter: Adapter
    #: One for each block of the UNet's way down that it adds to, a row each, with their weight.
    weighted: Sequence[Tensor]


@torch.inference_mode()
def features(asked: T2IAdapter, adapter: Adapter, picture: Image.Image) -> Features:
    """A lane's features of a picture that has the size of the result."""
    model = adapter.model
    picture = fitted(picture, adapter.size_for(picture.size), "just_resize_simple")
    values = as_tensor(picture, model.config.in_channels).to(model.device, model.dtype)
    return Features(asked, adapter, [asked.weight * each for each in model(values)])
