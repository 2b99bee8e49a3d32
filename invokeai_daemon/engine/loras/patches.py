"""Patches: the changes that one model wears now. Weights are changed in place, and restored to the bit.

Called before each forward with what the model shall wear in it; while that stays the same, nothing happens. The only
place where parameters of a loaded model are read or written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from invokeai_daemon.engine.loras.changes import Change


@dataclass(frozen=True, eq=False)
class Patch:
    """What one LoRA changes in one model."""

    #: By the name of the parameter.
    changes: Mapping[str, Sequence[Change]]


class Patches:
    """What one model wears. `worn` are keys of patches with their weights."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._worn: tuple[tuple[Hashable, float], ...] = ()
        #: The parameters that are changed now, as they were before.
        self._originals: dict[str, Tensor] = {}

    def wear(self, worn: tuple[tuple[Hashable, float], ...], patches: Mapping[Hashable, Patch]) -> None:
        """Let the model wear these and nothing else. When that fails, it wears nothing."""
        if worn == self._worn:
            return
        changing: dict[str, list[tuple[Change, float]]] = defaultdict(list)
        for key, weight in worn:
            for name, changes in patches[key].changes.items():
                changing[name].extend((change, weight) for change in changes)
        # Whatever goes wrong now, the next forward must not take the model for dressed.
        self._worn = ((None, 0.0),)
        try:
            self._change(changing)
        except BaseException:
            self._change({})
            self._worn = ()
            raise
        self._worn = worn

    # Numbers made in inference mode could not become parameters.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _change(self, changing: Mapping[str, Sequence[tuple[Change, float]]]) -> None:
        for name in self._originals.keys() - changing.keys():
            _write(self._model.get_parameter(name), self._originals.pop(name))
        for name, changes in changing.items():
            parameter = self._model.get_parameter(name)
            original = self._originals.get(name)
            if original is None:
                original = self._originals[name] = _kept(parameter)
            _write(parameter, _changed(original.to(parameter.device), changes))


def _changed(original: Tensor, changes: Sequence[tuple[Change, float]]) -> Tensor:
    """W' = W + the sum of all changes, each of the original weight, in float32."""
    changed = original.to(torch.float32, copy=True)
    for change, weight in changes:
        change.add_to(changed, original, weight)
    return changed.to(original.dtype)


# On a CPU a changed weight is another tensor, and the original waits beside it. An accelerator's memory is dear: there
# the original waits in the machine's, and the weight is overwritten.


def _kept(parameter: nn.Parameter) -> Tensor:
    return parameter.data if parameter.device.type == "cpu" else parameter.data.cpu()


def _write(parameter: nn.Parameter, weight: Tensor) -> None:
    if parameter.device.type == "cpu":
        parameter.data = weight
    else:
        parameter.data.copy_(weight)
