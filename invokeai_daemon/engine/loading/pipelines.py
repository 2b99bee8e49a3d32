"""Pipelines: the models in memory, within a budget, the least recently used given up first. Called by the renderer."""

from __future__ import annotations

import atexit
import gc
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from typing import Protocol, TypeVar

import psutil
import torch

from invokeai_daemon.engine.loading.memory import Streamed
from invokeai_daemon.engine.loading.pipeline import Pipeline, load_pipeline, weight_of
from invokeai_daemon.engine.loading.vae import VaeSettings
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.settings import RenderSettings

#: Weights that take more than this share of the device leave too little for the pictures.
FULL = 0.9
#: Share of the memory that loaded models may take when the settings do not say.
MEMORY_SHARE = 0.5


class Kept(Protocol):
    """A model in memory."""

    @property
    def size(self) -> int:
        """Bytes of its weights."""


T = TypeVar("T", bound=Kept)


class Pipelines:
    """The loaded pipelines and what is used with them, within a budget of memory."""

    def __init__(self, settings: RenderSettings, device: torch.device, cores: int) -> None:
        self.settings, self.device, self.cores = settings, device, cores
        self.vae_settings = VaeSettings(settings.vae_precision, settings.vae_tiling)
        #: Bytes that the device has for us.
        self.capacity = int(settings.memory_gb * 1e9) or _capacity(device)
        self.budget = int(settings.cache_gb * 1e9) or int(self.capacity * MEMORY_SHARE)
        self._loaded: OrderedDict[Hashable, Kept] = OrderedDict()
        #: What of each model must be streamed; by its path and hash.
        self._needs: dict[Hashable, Streamed] = {}

    def has(self, model: ModelRef) -> bool:
        return self.peek(model) is not None

    def peek(self, model: ModelRef) -> Pipeline | None:
        """The pipeline of a model if it is loaded."""
        ways = (self._loaded.get(_key(model, streamed)) for streamed in Streamed)
        pipeline = next((kept for kept in ways if kept is not None), None)
        assert pipeline is None or isinstance(pipeline, Pipeline)
        return pipeline

    def get(
        self,
        model: ModelRef,
        in_use: Collection[Kept],
        loading: Callable[[], None],
        streamed: Streamed = Streamed.NOTHING,
    ) -> Pipeline:
        """The pipeline of a model; when it must be loaded, `loading` is called and others may be given up.

        What is `in_use` is kept. Raises what `load_pipeline` raises.
        """
        streamed = max(streamed, self._needed(model))

        def load() -> Pipeline:
            loading()
            return load_pipeline(
                model,
                self.device,
                self.settings.precision,
                self.cores,
                make_room=lambda needed: self.make_room(needed, in_use),
                streamed=streamed,
                vae_settings=self.vae_settings,
            )

        return self.keep(_key(model, streamed), load)

    def _needed(self, model: ModelRef) -> Streamed:
        """What of a model must be streamed, since its weights alone would fill the device."""
        key = model.path, model.hash
        if key not in self._needs:
            weights = {
                streamed: weight_of(model, self.device, self.settings.precision, self.vae_settings, streamed)
                for streamed in Streamed
            }
            fitting = (streamed for streamed, weight in weights.items() if weight <= FULL * self.capacity)
            self._needs[key] = next(fitting, Streamed.ALL)
        return self._needs[key]

    def keep(self, key: Hashable, load: Callable[[], T]) -> T:
        """What is kept under a key, loaded when it is not there. It is given up like a pipeline."""
        kept = self._loaded.get(key)
        if kept is None:
            kept = self._loaded[key] = load()
            _settle_garbage()
        self._loaded.move_to_end(key)
        return kept  # type: ignore[return-value]

    def make_room(self, needed: int, in_use: Collection[Kept]) -> None:
        """Give up what is not in use until so many bytes fit into the budget."""
        for key, kept in list(self._loaded.items()):
            if needed + sum(each.size for each in self._loaded.values()) <= self.budget:
                return
            if kept not in in_use:
                del self._loaded[key], kept
                _settle_garbage()

    def give_up_others(self, in_use: Collection[Kept]) -> bool:
        """Give up everything that is not in use, after memory ran out. False when there was nothing.

        What stays forgets what it can make again.
        """
        spare = [key for key, kept in self._loaded.items() if kept not in in_use]
        for key in spare:
            del self._loaded[key]
        for kept in self._loaded.values():
            if isinstance(kept, Pipeline):
                kept.forget()
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


def _key(model: ModelRef, streamed: Streamed) -> Hashable:
    return "pipeline", model.path, model.hash, streamed


def _capacity(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else psutil.virtual_memory().total)
