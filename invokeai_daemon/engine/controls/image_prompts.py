"""Image prompts: IP-Adapters, whose picture stands beside the prompt in the cross-attentions of a UNet.

Keys and values of a picture are made once, when a lane starts. During a forward the attentions see them through hooks
on two of their layers, so whoever computes the attention itself, and whatever LoRAs change, nothing else changes; then
the hooks are gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.loaders.unet import UNet2DConditionLoadersMixin
from diffusers.models.embeddings import ImageProjection
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from invokeai_daemon.engine.controls.blocks import counts_in
from invokeai_daemon.engine.controls.vision import Vision
from invokeai_daemon.engine.loading.parts import bytes_of
from invokeai_daemon.engine.loading.steady import make_steady
from invokeai_daemon.errors import ModelError
from invokeai_daemon.job.schema import IPAdapter

#: The cross-attentions of a UNet are numbered 1, 3, 5, … in the files, in the order of diffusers' processors.
CROSS = ".attn2.processor"


@dataclass(frozen=True, eq=False)
class ImagePrompter:
    """A loaded IP-Adapter."""

    base: str
    #: From what the vision encoder says to tokens as wide as those of a prompt.
    projection: nn.Module
    #: For each attention of the UNet by its name, what makes keys and what makes values of the tokens.
    keys: Mapping[str, nn.Linear]
    values: Mapping[str, nn.Linear]
    size: int

    @property
    def sees_patches(self) -> bool:
        """Whether it takes what the encoder says of each part of a picture, not of the whole."""
        return not isinstance(self.projection, ImageProjection)


def load_prompter(
    tensors: Mapping[str, Tensor], base: str, unet: Any, dtype: torch.dtype, device: torch.device
) -> ImagePrompter:
    """An IP-Adapter from the tensors of its file. Raises ModelError when it is not made for such a UNet."""
    names = [name.removesuffix(".processor") for name in unet.attn_processors if name.endswith(CROSS)]
    projection = _projection({name[11:]: each for name, each in tensors.items() if name.startswith("image_proj.")})
    layers = {
        kind: {
            name: _linear(tensors, f"ip_adapter.{2 * place + 1}.to_{kind}_ip.weight", _width(unet, name))
            for place, name in enumerate(names)
        }
        for kind in ("k", "v")
    }
    parts = nn.ModuleList([projection, *layers["k"].values(), *layers["v"].values()])
    parts.requires_grad_(False).eval().to(device, dtype)
    if device.type == "cpu":
        make_steady(parts)
    return ImagePrompter(base, projection, layers["k"], layers["v"], bytes_of(parts))


def _projection(tensors: dict[str, Tensor]) -> nn.Module:
    convert = UNet2DConditionLoadersMixin._convert_ip_adapter_image_proj_to_diffusers
    # It is a method of a UNet, of which it uses nothing unless memory is to be saved.
    return convert(None, tensors, low_cpu_mem_usage=False)  # type: ignore[no-any-return]


def _width(unet: Any, attention: str) -> int:
    return int(unet.get_submodule(attention).inner_dim)


def _linear(tensors: Mapping[str, Tensor], name: str, width: int) -> nn.Linear:
    weight = tensors.get(name)
    if weight is None or weight.dim() != 2 or weight.shape[0] != width:
        seen = "it is not there" if weight is None else f"its shape is {list(weight.shape)}"
        raise ModelError(f"{name} should give {width} numbers, and {seen}: it was made for another kind of model")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


@dataclass(frozen=True, eq=False)
class Tokens:
    """What attentions see of a picture: for each by its name the keys and the values, one row."""

    keys: Mapping[str, Tensor]
    values: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """An IP-Adapter for one lane."""

    asked: IPAdapter
    prompter: ImagePrompter
    #: Of the picture; and of no picture, which rows with the negative prompt see.
    picture: Tokens
    nothing: Tokens


@torch.inference_mode()
def look(asked: IPAdapter, prompter: ImagePrompter, vision: Vision, picture: Image.Image) -> tuple[Tokens, Tokens]:
    """What is seen of a picture, and of none."""
    seen, unseen = vision.patches(picture) if prompter.sees_patches else vision.whole(picture)
    return _tokens(asked, prompter, seen), _tokens(asked, prompter, unseen)


def _tokens(asked: IPAdapter, prompter: ImagePrompter, seen: Tensor) -> Tokens:
    tokens = prompter.projection(seen)
    names = [name for name in prompter.keys if counts_in(prompter.base, asked.method, name)]
    keys = {name: prompter.keys[name](tokens) for name in names}
    return Tokens(keys, {name: prompter.values[name](tokens) for name in names})


@dataclass(frozen=True, eq=False)
class Seen:
    """What the rows of a forward see of the pictures of one IP-Adapter."""

    #: One for each row, all of one adapter.
    prompts: Sequence[ImagePrompt]
    #: How much each counts in this forward.
    weights: Sequence[float]
    are_negative: Sequence[bool]

    def of(self, attention: str) -> tuple[Tensor, Tensor, Tensor] | None:
        """Keys, values and weights of all rows in an attention; None where no row sees anything."""
        weights = [
            weight if attention in prompt.picture.keys else 0.0
            for prompt, weight in zip(self.prompts, self.weights, strict=True)
        ]
        if not any(weights):
            return None
        chosen = [
            prompt.nothing if is_negative else prompt.picture
            for prompt, is_negative in zip(self.prompts, self.are_negative, strict=True)
        ]
        like = next(each.keys[attention] for each in chosen if attention in each.keys)
        nothing = torch.zeros_like(like)
        keys = torch.cat([each.keys.get(attention, nothing) for each in chosen])
        values = torch.cat([each.values.get(attention, nothing) for each in chosen])
        return keys, values, torch.tensor(weights, dtype=like.dtype, device=like.device).view(-1, 1, 1)


@contextmanager
def seeing(model: Any, several: Sequence[Seen]) -> Iterator[None]:
    """The model's cross-attentions see these pictures; afterwards it is as it was."""
    hooks: list[Any] = []
    try:
        for name in several[0].prompts[0].prompter.keys if several else ():
            told = [seen for each in several if (seen := each.of(name)) is not None]
            if told:
                hooks += _Looking(model.get_submodule(name), told).hooks()
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Looking:
    """One attention that sees pictures: between its queries and its last layer, what it sees is added."""

    def __init__(self, attention: Any, told: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
        self.attention, self.told = attention, told
        self.query: Tensor | None = None

    def hooks(self) -> list[Any]:
        return [
            self.attention.to_q.register_forward_hook(self._note_query),
            self.attention.to_out[0].register_forward_pre_hook(self._add),
        ]

    def _note_query(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.query = output

    def _add(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        assert self.query is not None
        total, *others = inputs
        for keys, values, weights in self.told:
            seen = scaled_dot_product_attention(self._heads(self.query), self._heads(keys), self._heads(values))
            total = total + weights * seen.transpose(1, 2).flatten(2)
        return total, *others

    def _heads(self, values: Tensor) -> Tensor:
        """[rows, tokens, heads · width] as [rows, heads, tokens, width]."""
        rows, tokens, _ = values.shape
        return values.view(rows, tokens, self.attention.heads, -1).transpose(1, 2)
