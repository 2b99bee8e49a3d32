"""Forward: what controls do to a forward of the denoiser. Called by `denoise.py` around it, with any rows of lanes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invokeai_daemon.engine.conditioning import Conditioning
from invokeai_daemon.engine.controls.controlnets import Control, Net, Residuals, residuals
from invokeai_daemon.engine.controls.during import counts
from invokeai_daemon.engine.controls.image_prompts import ImagePrompt, ImagePrompter, Seen, seeing
from invokeai_daemon.engine.controls.t2i_adapters import Adapter, Features
from invokeai_daemon.engine.injected import Injected


@dataclass(frozen=True, eq=False)
class Attached:
    """What is attached to one image, in the order of the job. Lanes of one group have the same models in each place."""

    controls: tuple[Control, ...] = ()
    features: tuple[Features, ...] = ()
    prompts: tuple[ImagePrompt, ...] = ()

    @property
    def models(self) -> tuple[Net | Adapter | ImagePrompter, ...]:
        """The loaded models that take memory."""
        adapters = (each.adapter for each in self.features)
        return *(each.net for each in self.controls), *adapters, *(each.prompter for each in self.prompts)


NOTHING = Attached()


@dataclass(frozen=True)
class Row:
    """One row of a forward, as the adapters of its image see it."""

    attached: Attached
    #: Which evaluation of its run it is, from 0, and of how many.
    index: int
    count: int
    #: Whether it is told the negative prompt.
    is_negative: bool

    def counts(self, adapter: Any) -> bool:
        """Whether one of its adapters counts in this evaluation."""
        return counts(adapter.asked, self.index, self.count)


@contextmanager
def controlled(
    model: Any, rows: Sequence[Row], latents: Tensor, timesteps: Tensor, conditioning: Conditioning
) -> Iterator[Injected | None]:
    """What is injected into a forward with these rows; inside, the model's attentions see the image prompts."""
    if all(row.attached is NOTHING for row in rows):
        yield None
        return
    summed = _of_controlnets(rows, latents, timesteps, conditioning)
    injected = Injected(tuple(summed[:-1]), summed[-1] if summed else None, tuple(_of_adapters(rows)))
    with seeing(model, _image_prompts(rows)):
        yield injected


def _of_controlnets(rows: Sequence[Row], latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Residuals:
    """The sum of what all ControlNets say, for each row; nothing where none counts."""
    total: Residuals = []
    for place in range(len(rows[0].attached.controls)):
        controls = [row.attached.controls[place] for row in rows]
        layers = len(controls[0].net.model.controlnet_down_blocks) + 1
        scales = [
            control.scales(row.is_negative, layers) if row.counts(control) else ()
            for row, control in zip(rows, controls, strict=True)
        ]
        chosen = [number for number, scale in enumerate(scales) if scale]
        if chosen:
            told = residuals([controls[number] for number in chosen], latents, timesteps, conditioning, chosen)
            weights = [[scales[number][layer] for number in chosen] for layer in range(layers)]
            scaled = [each * _column(weight, each) for each, weight in zip(told, weights, strict=True)]
            total = _added(total, [_spread(each, chosen, len(rows)) for each in scaled])
    return total


def _of_adapters(rows: Sequence[Row]) -> list[Tensor]:
    """The sum of the features of all T2I-Adapters, for each row; nothing where none counts."""
    total: list[Tensor] = []
    for place in range(len(rows[0].attached.features)):
        several = [row.attached.features[place] for row in rows]
        chosen = [number for number, row in enumerate(rows) if row.counts(several[number])]
        if chosen:
            levels = zip(*(several[number].weighted for number in chosen), strict=True)
            total = _added(total, [_spread(torch.cat(level), chosen, len(rows)) for level in levels])
    return total


def _image_prompts(rows: Sequence[Row]) -> list[Seen]:
    """For each IP-Adapter that counts in any row, what the rows see of it."""
    found = []
    for place in range(len(rows[0].attached.prompts)):
        prompts = [row.attached.prompts[place] for row in rows]
        weights = [
            prompt.asked.weight if row.counts(prompt) else 0.0 for row, prompt in zip(rows, prompts, strict=True)
        ]
        if any(weights):
            found.append(Seen(prompts, weights, [row.is_negative for row in rows]))
    return found


def _added(one: list[Tensor], other: list[Tensor]) -> list[Tensor]:
    return [here + there for here, there in zip(one, other, strict=True)] if one else other


def _column(weights: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(weights, dtype=like.dtype, device=like.device).view(-1, 1, 1, 1)


def _spread(values: Tensor, chosen: Sequence[int], rows: int) -> Tensor:
    """Values of the chosen rows among all rows; the others get 0."""
    if len(chosen) == rows:
        return values
    spread = values.new_zeros(rows, *values.shape[1:])
    spread[torch.tensor(chosen, device=values.device)] = values
    return spread
