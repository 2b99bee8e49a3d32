"""Schedulers: diffusers' objects by InvokeAI's names, one for each lane, since they hold the state of its run.

The names and options stand in `job/schedulers.py`. Called by the lanes; never touches a model.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
import torch

from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.schedulers import BY_NAME


class Schedulers:
    """The schedulers of one model, built from its own scheduler config."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        #: Schedulers after `set_timesteps`, by name and number of steps; lanes get copies, which costs far less.
        self._ready = functools.lru_cache(maxsize=64)(self._build)

    def new(self, name: str, steps: int) -> Any:
        """A scheduler ready for a run of so many steps, shared with nobody. Raises RenderError."""
        return copy.deepcopy(self._ready(name, steps))

    def _build(self, name: str, steps: int) -> Any:
        known = BY_NAME.get(name)
        if known is None or known.class_name is None:
            raise RenderError(f'scheduler "{name}" is not one that can be rendered. Try "euler" or "dpmpp_2m_k".')
        try:
            scheduler = getattr(diffusers, known.class_name).from_config(self.config, **known.options)
            # Timesteps stay on the CPU: the step number is looked up there, and a device would have to be waited for.
            scheduler.set_timesteps(steps, device="cpu")
        except (ValueError, IndexError, ImportError, NotImplementedError) as error:
            raise RenderError(f'scheduler "{name}" cannot make {steps} steps with this model: {error}') from error
        return scheduler


def step_arguments(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    """What diffusers' own pipeline passes to `step` besides tensors: the lane's noise, and none for DDIM."""
    values: dict[str, Any] = {"generator": generator, "eta": 0.0}
    taken = inspect.signature(scheduler.step).parameters
    return {name: value for name, value in values.items() if name in taken}
