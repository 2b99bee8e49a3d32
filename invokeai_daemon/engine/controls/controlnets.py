"""ControlNets: a copy of a UNet's way down that sees a control picture, and says what to add to the UNet's values.

Loaded once and kept beside the pipelines. What it makes of a picture before its first layer is computed when a lane
starts, not in each step; the rest runs in each step, once for all rows that it counts for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from torch import Tensor, nn

from invokeai_daemon.engine.conditioning import Conditioning
from invokeai_daemon.engine.controls.pictures import as_tensor
from invokeai_daemon.engine.loading.parts import bring, bytes_of, json_of, read_part
from invokeai_daemon.engine.loading.steady import make_steady
from invokeai_daemon.errors import ModelError
from invokeai_daemon.job.schema import ControlNet

#: Where injection is soft, each layer counts less than the next coarser one, from this power of ten to 10⁰.
SOFTEST = -1.0
#: The modes in which injection is soft, and those in which only the prompt's own row is controlled.
SOFT = frozenset({"more_prompt", "more_control"})
PROMPT_ONLY = frozenset({"more_control", "unbalanced"})

#: What to add on the way down and in the middle.
Residuals = list[Tensor]


@dataclass(frozen=True, eq=False)
class Net:
    """A loaded ControlNet."""

    #: diffusers' model, without its way in for pictures.
    model: Any
    #: What it makes of a picture before its first layer.
    way_in: nn.Module
    has_blue_first: bool
    size: int

    @property
    def pools(self) -> bool:
        """Whether it says one value for a whole picture; such a ControlNet is told of the prompt's own row only."""
        return bool(self.model.config.global_pool_conditions)


def load_net(folder: Path, dtype: torch.dtype, device: torch.device) -> Net:
    """A ControlNet from its diffusers folder. Raises ModelError, and what the loading libraries raise."""
    named = json_of(folder / "config.json").get("_class_name")
    if named != ControlNetModel.__name__:
        raise ModelError(f"it is a {named}, and only those of class {ControlNetModel.__name__} can be used yet")
    model = read_part(ControlNetModel, folder, dtype)
    if device.type == "cpu":
        make_steady(model)
    bring(model, device)
    size, way_in = bytes_of(model), model.controlnet_cond_embedding
    has_blue_first = model.config.controlnet_conditioning_channel_order == "bgr"
    # The forward then takes what the way in made, and must not turn that around as if it were a picture.
    model.controlnet_cond_embedding = nn.Identity()
    model.register_to_config(controlnet_conditioning_channel_order="rgb")
    return Net(model, way_in, has_blue_first, size)


@dataclass(frozen=True, eq=False)
class Control:
    """A ControlNet for one lane."""

    asked: ControlNet
    net: Net
    #: What the net's way in made of the picture, one row.
    hint: Tensor

    def scales(self, is_negative: bool, layers: int) -> Sequence[float]:
        """How much each residual counts in a row, from the finest to the middle one; nothing where none does."""
        if is_negative and (self.asked.control_mode in PROMPT_ONLY or self.net.pools):
            return ()
        if self.asked.control_mode in SOFT and not self.net.pools:
            softness: list[float] = torch.logspace(SOFTEST, 0, layers).tolist()
            return [self.asked.weight * each for each in softness]
        return [self.asked.weight] * layers


@torch.inference_mode()
def control(asked: ControlNet, net: Net, picture: Any) -> Control:
    """A lane's control by a picture that has the size of the result."""
    values = as_tensor(picture, net.model.config.conditioning_channels).to(net.model.device, net.model.dtype)
    return Control(asked, net, net.way_in(values.flip(1) if net.has_blue_first else values))


def residuals(
    controls: Sequence[Control], latents: Tensor, timesteps: Tensor, conditioning: Conditioning, rows: Sequence[int]
) -> Residuals:
    """What one ControlNet says of some rows of a forward, each with its own control; the middle one is last."""
    model = controls[0].net.model
    chosen = torch.tensor(rows, device=latents.device)
    down, middle = model(
        latents[chosen, : model.config.in_channels],
        timesteps[chosen],
        conditioning.texts[chosen],
        torch.cat([control.hint for control in controls]),
        added_cond_kwargs={name: values[chosen] for name, values in conditioning.added.items()},
        return_dict=False,
    )
    return [*down, middle]
