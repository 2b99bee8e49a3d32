"""Pictures of Stable Diffusion 3 and FLUX.1 as diffusers' own pipelines make them, for tests to compare with."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor

from invokeai_daemon.engine.denoisers import packed, unpacked
from invokeai_daemon.engine.loading.pipeline import Pipeline, load_pipeline
from invokeai_daemon.job.plan import Image, ModelRef
from tests.engine.conftest import Pixels, load_plainly

#: diffusers' own schedulers of flows, by our names.
THEIRS = {
    "euler": diffusers.FlowMatchEulerDiscreteScheduler,
    "heun": diffusers.FlowMatchHeunDiscreteScheduler,
    "lcm": diffusers.FlowMatchLCMScheduler,
}


class Flow:
    """A model as it is loaded here and as diffusers loads it."""

    def __init__(self, model: ModelRef) -> None:
        self.model = model
        self.ours: Pipeline = load_pipeline(model, torch.device("cpu"), "float32", cores=2)
        self.plain: Any = load_plainly(model)

    def as_kind(self, kind: Any, **parts: Any) -> Any:
        """diffusers' pipeline of another class with the same parts, but for some."""
        taken = inspect.signature(kind).parameters
        other = kind(**{name: part for name, part in {**self.plain.components, **parts}.items() if name in taken})
        other.set_progress_bar_config(disable=True)
        return other

    def render(self, wanted: Image, plain: Any = None, **words: Any) -> Pixels:
        """The picture of diffusers."""
        plain = plain or self.plain
        generator = torch.Generator("cpu").manual_seed(wanted.seed)
        plain.scheduler = THEIRS[wanted.scheduler].from_config(self.plain.scheduler.config)
        if wanted.scheduler == "lcm":
            # Their pipelines leave the noise of its steps to chance.
            plain.scheduler.step = partial(self._step, plain.scheduler.step, wanted, generator)
        common = {
            "width": wanted.width,
            "height": wanted.height,
            "num_inference_steps": wanted.steps,
            "generator": generator,
            "max_sequence_length": self.ours.prompts.encoders[-1].length,
            "negative_prompt": wanted.negative_prompt,
            **_guidance(self.model.base, wanted),
        }
        taken = inspect.signature(plain.__call__).parameters
        asked = {name: value for name, value in {**common, **words}.items() if name in taken}
        return np.asarray(plain(wanted.prompt, **asked).images[0])

    def _step(
        self,
        step: Any,
        wanted: Image,
        generator: torch.Generator,
        prediction: Tensor,
        timestep: Tensor,
        latents: Tensor,
        return_dict: bool,
    ) -> tuple[Tensor]:
        """A step with noise from the image's generator, drawn as pictures lie and not as their tokens."""
        if latents.dim() == 4:
            return step(prediction, timestep, latents, generator=generator, return_dict=False)
        sides = wanted.height // 8, wanted.width // 8
        prediction, latents = unpacked(prediction, *sides), unpacked(latents, *sides)
        return (packed(step(prediction, timestep, latents, generator=generator, return_dict=False)[0]),)


def _guidance(base: str, wanted: Image) -> dict[str, float | None]:
    if base == "sd-3":
        return {"guidance_scale": wanted.cfg_scale}
    return {"guidance_scale": wanted.guidance, "true_cfg_scale": wanted.cfg_scale}
