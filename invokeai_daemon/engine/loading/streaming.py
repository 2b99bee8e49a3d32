"""Streaming: models larger than the device's memory. Their layers lie on the disk and come for their own forward.

Called when a pipeline is loaded so. Slow, but it renders; what was read lately is in the page cache of the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from accelerate.hooks import attach_align_device_hook
from torch import Tensor

from invokeai_daemon.engine.loading.weights import read_tensors
from invokeai_daemon.models.header import read_header

#: Names that transformers' own files leave out or add, depending on the version that wrote them.
_OTHER_NAMES = (("text_model.", ""), ("", "text_model."), ("encoder.embed_tokens.", "shared."))


class Stored(Mapping[str, Tensor]):
    """The tensors of some safetensors files by name, each read when it is asked for."""

    def __init__(self, files: list[Path], dtype: torch.dtype) -> None:
        """Raises UnreadableModel."""
        self._dtype = dtype
        #: What is done to some of them on the way, by their names in the model.
        self.changes: Mapping[str, Callable[[Tensor], Tensor]] = {}
        self._places = {name: header for header in map(read_header, files) for name in header.tensors}

    def __getitem__(self, name: str) -> Tensor:
        known = self._known(name)
        # Not mapped into memory: a mapping of the whole file may be refused where memory is short.
        tensor = read_tensors(self._places[known], [known])[known]
        tensor = tensor.to(self._dtype) if tensor.is_floating_point() else tensor
        return self.changes[name](tensor) if name in self.changes else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _known(self, name: str) -> str:
        if name in self._places:
            return name
        for ours, theirs in _OTHER_NAMES:
            other = theirs + name.removeprefix(ours)
            if name.startswith(ours) and other in self._places:
                return other
        raise KeyError(name)


def without_weights(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A model of diffusers or transformers as its folder's config says, its weights yet to come."""
    with init_empty_weights(include_buffers=False):
        if hasattr(kind, "load_config"):
            model = kind.from_config(kind.load_config(folder))
        else:
            model = kind(kind.config_class.from_pretrained(folder))
    for parameter in model.parameters():
        # Not `model.to`, which warns of parts that would lose precision: here nothing has a value yet.
        parameter.data = parameter.data.to(dtype)
    return model


def stream(model: Any, weights: Stored, device: torch.device) -> None:
    """Let each layer's weights come from its files for its own forward on `device`, and go again."""
    attach_align_device_hook(model, execution_device=device, offload=True, weights_map=weights)
    model.runs_on = device


def device_of(model: Any) -> torch.device:
    """Where a model computes, also if its weights are elsewhere meanwhile."""
    device: torch.device = getattr(model, "runs_on", None) or model.device
    return device
