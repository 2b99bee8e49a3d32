"""Weights: the tensors of a file that a stranger wrote, whatever its format, without running anything of it.

Called for the files of adapters. Where a tensor lies is known from the header, which `models.header` reads; here its
bytes are read into memory, so that a file may be replaced while it is in use.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from invokeai_daemon.errors import RenderError, UnreadableModel
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.models.header import Header, TensorInfo, opened

#: By the words of headers.
DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }
)

#: How the weights in the folder of an adapter are called, and how those of any model end.
NAMES = ("pytorch_lora_weights", "adapter_model", "learned_embeds", "model")
ENDS = (".safetensors", ".bin", ".pt", ".ckpt")


def weight_file(reference: ModelRef) -> Path:
    """The file of an adapter, or the one that matters in its folder. Raises RenderError."""
    path = Path(reference.path)
    if not path.is_dir():
        return path
    known = [path / f"{name}{end}" for name in NAMES for end in ENDS]
    found = [file for file in known if file.is_file()] or sorted(each for end in ENDS for each in path.glob(f"*{end}"))
    if not found:
        raise RenderError(f"{reference.type} {reference.name}: there are no weights in {path}. Import it again.")
    return found[0]


def read_tensors(header: Header, names: Iterable[str]) -> dict[str, Tensor]:
    """Some tensors of a file as it stores them. Raises UnreadableModel."""
    with opened(header.path) as (descriptor, _):
        return {name: _read(header.path, descriptor, name, header.tensors[name]) for name in names}


def _read(path: Path, descriptor: int, name: str, info: TensorInfo) -> Tensor:
    if info.dtype not in DTYPES or info.file_offset < 0:
        why = info.reason or f"it is stored as {info.dtype}"
        raise UnreadableModel(f"{path}: {name} cannot be used: {why}. Save the file again as safetensors.")
    tensor = torch.empty(info.shape, dtype=DTYPES[info.dtype])
    # numpy, through which torch shares bytes, has not all of these types.
    room = tensor.view(-1).view(torch.uint8).numpy().data if info.nbytes else memoryview(bytearray())
    done = 0
    while done < info.nbytes:
        count = os.preadv(descriptor, [room[done:]], info.file_offset + done)
        if not count:
            raise UnreadableModel(f"{path}: it became shorter while it was read. Copy it again.")
        done += count
    if not _is_finite(tensor):
        raise UnreadableModel(f"{path}: {name} holds values that are no numbers. Take another version of it.")
    return tensor


def _is_finite(tensor: Tensor) -> bool:
    # Types of one byte know no such question.
    numbers = tensor.float() if tensor.is_floating_point() and tensor.itemsize == 1 else tensor
    return bool(numbers.isfinite().all())
