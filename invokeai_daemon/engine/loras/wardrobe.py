"""Wardrobe: the LoRAs of one pipeline, fitted to its models, and what these wear now.

Made with the pipeline. The renderer asks `fit` for each image before its lane starts; whoever calls a model says just
before what it wears: `dress_denoiser` before a step, `dress_encoders` before texts are encoded. Images of equal LoRAs
cost nothing between two forwards, and without LoRAs a model is to the bit as it was loaded.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from invokeai_daemon.engine.loras.changes import Change
from invokeai_daemon.engine.loras.modules import Spot, Spots, spots_of
from invokeai_daemon.engine.loras.patches import Patch, Patches
from invokeai_daemon.engine.loras.reading import LoraLayer, read_lora
from invokeai_daemon.engine.loras.worn import Worn
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.plan import ModelRef

#: LoRAs that are kept at hand.
KEPT = 8
#: Of the layers that have a place in the model, the share that must have its size. Few are odd where a model was
#: widened, for inpainting for instance; if many are, the LoRA is for another model.
FITTING = 0.9
#: The text encoder that a part of a file is for, where there are several; of the other parts it is the first.
_FOLDERS = {
    "te2": "text_encoder_2",
    "text_encoder_2": "text_encoder_2",
    "clip_g": "text_encoder_2",
    "te3": "text_encoder_3",
    "text_encoder_3": "text_encoder_3",
}
_T5 = "t5"

Outfit = tuple[Worn, ...]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A LoRA, fitted to the models of a pipeline."""

    #: By the folder of the model.
    patches: Mapping[str, Patch]
    #: What of it has no place here; empty when all has.
    warning: str


class Wardrobe:
    """The LoRAs of one pipeline. Models go by their folders; the first is what denoises."""

    def __init__(self, model: ModelRef, models: Mapping[str, Any]) -> None:
        self._name, self._base, self._models = model.name, model.base, models
        self._denoiser, *self._encoders = models
        self._patches = {folder: Patches(model) for folder, model in models.items()}
        self._fitted: OrderedDict[Worn, Fitted] = OrderedDict()

    def fit(self, outfit: Outfit) -> list[str]:
        """Have the LoRAs of an image at hand, and say what of them fits nothing. Raises RenderError."""
        warnings = [self._get(worn).warning for worn in outfit]
        while len(self._fitted) > max(KEPT, len(outfit)):
            self._fitted.popitem(last=False)
        return [warning for warning in warnings if warning]

    def dress_denoiser(self, outfit: Outfit) -> None:
        """Let what denoises wear these and nothing else."""
        self._dress(self._denoiser, [(worn, worn.weight) for worn in outfit])

    def dress_encoders(self, outfit: Outfit) -> None:
        """Let the text encoders wear these and nothing else."""
        for folder in self._encoders:
            self._dress(folder, [(worn, worn.text_encoder_weight) for worn in outfit])

    def forget(self) -> None:
        """Keep nothing but what is worn now."""
        self._fitted.clear()
        for patches in self._patches.values():
            patches.forget()

    def of_texts(self, outfit: Outfit) -> Outfit:
        """The LoRAs among these that change what texts mean."""
        return tuple(
            worn
            for worn in outfit
            if worn.text_encoder_weight and any(folder in self._get(worn).patches for folder in self._encoders)
        )

    def _dress(self, folder: str, outfit: Sequence[tuple[Worn, float]]) -> None:
        wanted = tuple(each for each in outfit if each[1] and folder in self._get(each[0]).patches)
        self._patches[folder].wear(wanted, {worn: self._get(worn).patches[folder] for worn, _ in wanted})

    def _get(self, worn: Worn) -> Fitted:
        # Weights are no part of how a LoRA fits.
        key = Worn(worn.model, 1.0, 1.0, worn.version)
        fitted = self._fitted.get(key)
        if fitted is None:
            fitted = self._fitted[key] = self._fit(worn)
        self._fitted.move_to_end(key)
        return fitted

    def _fit(self, worn: Worn) -> Fitted:
        name, layers = worn.model.name, read_lora(worn.model)
        placed, homeless, misfits = self._placed(layers)
        if misfits and len(misfits) > (1 - FITTING) * (len(placed) + len(misfits)):
            raise RenderError(f'The LoRA "{name}" does not fit model "{self._name}": {_size(*misfits[0])}')
        if all(layer.weight is None and layer.bias is None for layer in layers):
            raise RenderError(
                f'The LoRA "{name}" changes nothing: each of its {len(layers)} layers lacks a part or is of an '
                f"unknown kind, for instance {layers[0].target.stem}. Take another version of it."
            )
        if not placed:
            raise RenderError(
                f'The LoRA "{name}" does not fit model "{self._name}": none of its {len(layers)} layers is one of that '
                f"model's, for instance {layers[0].target.stem}. Choose a LoRA for {self._base} models."
            )
        patches: dict[str, dict[str, list[Change]]] = defaultdict(lambda: defaultdict(list))
        for layer, folder, spots in placed:
            for spot in spots:
                self._add(patches[folder], layer, spot)
        unused = [*homeless, *(layer for layer, _ in misfits)]
        warning = f'lora "{name}": {_unused(unused, len(layers))}' if unused else ""
        return Fitted({folder: Patch(dict(changes)) for folder, changes in patches.items()}, warning)

    def _placed(
        self, layers: Sequence[LoraLayer]
    ) -> tuple[list[tuple[LoraLayer, str, tuple[Spot, ...]]], list[LoraLayer], list[tuple[LoraLayer, Spot]]]:
        """Layers with their places, those without one, and those whose place has another size."""
        placed, homeless, misfits = [], [], []
        for layer in layers:
            folder = self._folder(layer.target.place.part)
            spots = self._spots[folder].get(layer.target.place.module, ()) if folder else ()
            if not spots or not folder or not self._can_apply(layer, folder, spots):
                homeless.append(layer)
            elif not spots[0].fits(layer.target.layer.measure):
                misfits.append((layer, spots[0]))
            else:
                placed.append((layer, folder, spots))
        return placed, homeless, misfits

    def _folder(self, part: str) -> str | None:
        if part == "unet":
            return self._denoiser
        if part.startswith(_T5):
            return self._encoders[-1]
        return next((each for each in (_FOLDERS.get(part), *self._encoders[:1]) if each in self._models), None)

    def _can_apply(self, layer: LoraLayer, folder: str, spots: Sequence[Spot]) -> bool:
        if layer.weight is None and layer.bias is None:
            return False
        if layer.weight is None:
            return self._has_bias(folder, spots[0])
        # What they add follows from the whole weight, of which the model has rows in several places.
        is_of_whole = "DoRA" in layer.weight.kind or layer.weight.kind == "IA3" or "whole" in layer.weight.leaves
        return not (spots[0].rows and is_of_whole)

    def _has_bias(self, folder: str, spot: Spot) -> bool:
        model: nn.Module = self._models[folder]
        return getattr(model.get_submodule(spot.module), "bias", None) is not None

    def _add(self, changes: dict[str, list[Change]], layer: LoraLayer, spot: Spot) -> None:
        folder = self._folder(layer.target.place.part)
        assert folder is not None
        if layer.weight is not None:
            weight = layer.weight
            changes[f"{spot.module}.weight"].append(Change(weight.kind, weight.leaves, weight.scale, spot.rows))
        if layer.bias is not None and self._has_bias(folder, spot):
            bias = layer.bias
            changes[f"{spot.module}.bias"].append(Change(bias.kind, bias.leaves, bias.scale, spot.rows))

    @cached_property
    def _spots(self) -> Mapping[str, Spots]:
        return {
            folder: spots_of(model, self._base, folder) if folder == self._denoiser else spots_of(model)
            for folder, model in self._models.items()
        }


def _unused(unused: Sequence[LoraLayer], count: int) -> str:
    fits = "fits" if len(unused) == 1 else "fit"
    return f"{len(unused)} of {count} layers {fits} nothing in this model, for instance {unused[0].target.stem}"


def _size(layer: LoraLayer, spot: Spot) -> str:
    rows, columns, _, either = layer.target.layer.measure
    sizes = either or "×".join("?" if side is None else str(side) for side in (rows, columns))
    return (
        f"{layer.target.stem} changes a layer of {sizes}, and this model's is {'×'.join(map(str, spot.shape))}. "
        "It was trained for another kind of model."
    )
