"""Patches: the changes that one model wears now. Weights are changed in place, and restored to the bit.

Called before each forward with what the model shall wear in it; while that stays the same, nothing happens. The only
place where parameters of a loaded model are read or written; how, depends on where they are.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import psutil
import torch
from torch import Tensor, nn

from invokeai_daemon.engine.loras.changes import Change

#: Types in which a CPU multiplies and adds at once, with sums in float32; that factors are rounded to bfloat16 is lost
#: in the rounding of the weight.
QUICK = frozenset({torch.float32, torch.bfloat16})
#: Weights that were taken off are kept for the next time if so many times their size is free.
ROOM = 4

#: What a model wears: keys of patches, with their weights.
Wearing = tuple[tuple[Hashable, float], ...]
#: By the name of a parameter, what is changed in it and how much.
Changing = Mapping[str, Sequence[tuple[Change, float]]]


@dataclass(frozen=True, eq=False)
class Patch:
    """What one LoRA changes in one model."""

    #: By the name of the parameter.
    changes: Mapping[str, Sequence[Change]]


class Parameters(Protocol):
    """The parameters of a model, some of which may be changed."""

    def change(self, worn: Wearing, changing: Changing) -> None:
        """Let these be changed as said, and all others be as they were loaded."""

    def forget(self) -> None:
        """Keep nothing but what is needed now."""


class Patches:
    """What one model wears."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._worn: Wearing = ()
        self._parameters: Parameters | None = None

    # Numbers made in inference mode could not become parameters.
    @torch.inference_mode(False)
    @torch.no_grad()
    def wear(self, worn: Wearing, patches: Mapping[Hashable, Patch]) -> None:
        """Let the model wear these and nothing else. When that fails, it wears nothing."""
        if worn == self._worn:
            return
        if self._parameters is None:
            self._parameters = parameters_of(self._model)
        changing: dict[str, list[tuple[Change, float]]] = defaultdict(list)
        for key, weight in worn:
            for name, changes in patches[key].changes.items():
                changing[name].extend((change, weight) for change in changes)
        try:
            self._parameters.change(worn, changing)
        except BaseException:
            self._parameters.change((), {})
            self._worn = ()
            raise
        self._worn = worn

    def forget(self) -> None:
        """Keep nothing but what is worn now."""
        if self._parameters is not None:
            self._parameters.forget()


def parameters_of(model: Any) -> Parameters:
    """How the parameters of a model are changed."""
    if getattr(model, "stored", None) is not None:
        return _Streamed(model)
    return _Exchanged(model) if next(model.parameters()).device.type == "cpu" else _Overwritten(model)


class _Exchanged:
    """On a CPU: other tensors stand in for the original ones, and are kept for the next time while there is room."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        #: The parameters that are changed now, as they were before.
        self._originals: dict[str, Tensor] = {}
        #: Changed parameters by what they wear, the last worn last.
        self._kept: OrderedDict[Wearing, dict[str, Tensor]] = OrderedDict()

    def change(self, worn: Wearing, changing: Changing) -> None:
        for name, original in self._originals.items():
            self._model.get_parameter(name).data = original
        self._originals = {}
        if worn:
            tensors = self._changed(worn, changing)
            parameters = {name: self._model.get_parameter(name) for name in tensors}
            self._originals = {name: parameter.data for name, parameter in parameters.items()}
            for name, parameter in parameters.items():
                parameter.data = tensors[name]
        self._give_up_spare(is_worn=bool(worn))

    def forget(self) -> None:
        while len(self._kept) > bool(self._originals):
            self._kept.popitem(last=False)

    def _changed(self, worn: Wearing, changing: Changing) -> dict[str, Tensor]:
        if worn not in self._kept:
            # What was worn before the last time makes room: memory that is there already is filled faster.
            room = self._kept.popitem(last=False)[1] if len(self._kept) > 1 else {}
            self._kept[worn] = {
                name: _changed(original, changes, room.get(name, torch.empty_like(original)))
                for name, changes in changing.items()
                for original in [self._model.get_parameter(name).data]
            }
        self._kept.move_to_end(worn)
        return self._kept[worn]

    def _give_up_spare(self, is_worn: bool) -> None:
        while len(self._kept) > is_worn:
            spare = next(iter(self._kept.values()))
            if ROOM * sum(tensor.nbytes for tensor in spare.values()) < psutil.virtual_memory().available:
                return
            self._kept.popitem(last=False)


class _Overwritten:
    """On an accelerator, whose memory is dear: weights are overwritten, and the original ones wait in the machine's."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._originals: dict[str, Tensor] = {}

    def change(self, worn: Wearing, changing: Changing) -> None:
        for name in self._originals.keys() - changing.keys():
            self._model.get_parameter(name).data.copy_(self._originals.pop(name))
        for name, changes in changing.items():
            weight = self._model.get_parameter(name).data
            if name not in self._originals:
                self._originals[name] = weight.to("cpu", copy=True)
            _changed(self._originals[name].to(weight.device), changes, weight)

    def forget(self) -> None:
        pass


class _Streamed:
    """Of a model whose layers come from the disk for their own forward: they are changed on the way."""

    def __init__(self, model: Any) -> None:
        self._stored = model.stored

    def change(self, worn: Wearing, changing: Changing) -> None:
        self._stored.changes = {name: partial(_copy_changed, changes=changes) for name, changes in changing.items()}

    def forget(self) -> None:
        pass


def _copy_changed(original: Tensor, changes: Sequence[tuple[Change, float]]) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return _changed(original, changes, torch.empty_like(original))


def _changed(original: Tensor, changes: Sequence[tuple[Change, float]], room: Tensor) -> Tensor:
    """W' = W + the sum of all changes, each of the original weight, in float32. Written into `room`."""
    is_quick = room.device.type == "cpu" and room.dtype in QUICK and room.is_contiguous()
    if is_quick and all(change.is_product for change, _ in changes):
        products = [change.product(weight) for change, weight in changes]
        up = torch.cat([up for up, _ in products], dim=1).to(original.dtype)
        down = torch.cat([down for _, down in products]).to(original.dtype)
        torch.addmm(original.flatten(1), up, down, out=room.view(len(room), -1))
        return room
    total = original.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    for change, weight in changes:
        change.add_to(total, original, weight)
    return room.copy_(total)
