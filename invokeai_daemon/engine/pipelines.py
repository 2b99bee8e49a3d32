"""Pipelines: the models in memory, within a budget, the least recently used given up first. Called by the renderer."""

from __future__ import annotations

import atexit
import gc
from collections import OrderedDict
from collections.abc import Callable, Collection

import psutil
import torch

from invokeai_daemon.engine.pipeline import Pipeline, load_pipeline
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.settings import RenderSettings

#: Share of the memory that loaded models may take when the settings do not say.
MEMORY_SHARE = 0.5


class Pipelines:
    """The loaded pipelines, within a budget of memory."""

    def __init__(self, settings: RenderSettings, device: torch.device, cores: int) -> None:
        self.settings, self.device, self.cores = settings, device, cores
        self.budget = int(settings.cache_gb * 1e9) or _default_budget(device)
        self._loaded: OrderedDict[tuple[str, str], Pipeline] = OrderedDict()

    def has(self, model: ModelRef) -> bool:
        return _key(model) in self._loaded

    def peek(self, model: ModelRef) -> Pipeline | None:
        """The pipeline of a model if it is loaded."""
        return self._loaded.get(_key(model))

    def get(self, model: ModelRef, in_use: Collection[Pipeline], loading: Callable[[], None]) -> Pipeline:
        """The pipeline of a model; when it must be loaded, `loading` is called and others may be given up.

        Pipelines `in_use` are kept. Raises what `load_pipeline` raises.
        """
        pipeline = self._loaded.get(_key(model))
        if pipeline is None:
            loading()
            pipeline = load_pipeline(
                model,
                self.device,
                self.settings.precision,
                self.cores,
                make_room=lambda needed: self._make_room(needed, in_use),
            )
            self._loaded[_key(model)] = pipeline
            _settle_garbage()
        self._loaded.move_to_end(_key(model))
        return pipeline

    def _make_room(self, needed: int, in_use: Collection[Pipeline]) -> None:
        for key, pipeline in list(self._loaded.items()):
            if needed + sum(each.size for each in self._loaded.values()) <= self.budget:
                return
            if pipeline not in in_use:
                del self._loaded[key], pipeline
                _settle_garbage()

    def give_up_others(self, in_use: Collection[Pipeline]) -> bool:
        """Give up every pipeline that is not in use, after memory ran out. False when there was none."""
        spare = [key for key, pipeline in self._loaded.items() if pipeline not in in_use]
        for key in spare:
            del self._loaded[key]
        _settle_garbage()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return bool(spare)


def _settle_garbage() -> None:
    """Free what was given up, cycles included, and tell the collector to leave alone what remains.

    Otherwise it would walk through a million objects of torch and the models again and again.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


# What is frozen at the end of the process looks like a leak to libraries that count their objects.
atexit.register(gc.unfreeze)


def _key(model: ModelRef) -> tuple[str, str]:
    return model.path, model.hash


def _default_budget(device: torch.device) -> int:
    total = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else psutil.virtual_memory().total
    return int(total * MEMORY_SHARE)
