"""Attaching: what a lane carries of controls. Models are loaded once and kept, pictures are read and looked at.

Called by the renderer when a pass of an image begins. What belongs to another base than the pass's model is left out:
that of SDXL, where its refiner makes the end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image as Pillow

from invokeai_daemon.engine.controls.controlnets import Control, control, load_net
from invokeai_daemon.engine.controls.forward import NOTHING, Attached
from invokeai_daemon.engine.controls.image_prompts import ImagePrompt, ImagePrompter, Tokens, load_prompter, look
from invokeai_daemon.engine.controls.pictures import fitted
from invokeai_daemon.engine.controls.remembered import Remembered
from invokeai_daemon.engine.controls.t2i_adapters import Features, features, load_adapter
from invokeai_daemon.engine.controls.vision import load_vision
from invokeai_daemon.engine.loading.parts import being_read
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.loading.pipelines import Kept, Pipelines
from invokeai_daemon.engine.loading.weights import read_tensors
from invokeai_daemon.engine.passes import Desk
from invokeai_daemon.engine.processors import processed
from invokeai_daemon.engine.processors.depth import load_estimator
from invokeai_daemon.job.plan import Image, ModelRef
from invokeai_daemon.job.processors import BY_NAME, NONE
from invokeai_daemon.job.schema import ControlNet, IPAdapter, T2IAdapter
from invokeai_daemon.models.header import read_header
from invokeai_daemon.output.png import encode
from invokeai_daemon.output.results import Results

T = TypeVar("T", bound=Kept)

#: The images of a job follow the same pictures.
_PICTURES: Remembered[Pillow.Image] = Remembered(8)
_TOKENS: Remembered[tuple[Tokens, Tokens]] = Remembered(8)
#: Of control pictures that are kept.
COMPRESSION = 1
#: Where an IP-Adapter's weights lie in a folder as InvokeAI has it.
IN_FOLDER = ("ip_adapter.safetensors", "ip_adapter.bin")
#: The parts of such a file that count.
PARTS = ("image_proj.", "ip_adapter.")


def attach(pipelines: Pipelines, in_use: Collection[Kept], desk: Desk, pipeline: Pipeline, image: Image) -> Attached:
    """What a pass of an image carries; `NOTHING` where the job asks for none. Raises DaemonError."""
    if not (image.controlnets or image.t2i_adapters or image.ip_adapters):
        return NOTHING
    attaching = _Attaching(pipelines, in_use, desk, pipeline, image)
    with pipeline.share.computing():
        return Attached(tuple(attaching.controls()), tuple(attaching.features()), tuple(attaching.prompts()))


@dataclass(frozen=True, eq=False)
class _Attaching:
    """One image's controls in the making."""

    pipelines: Pipelines
    in_use: Collection[Kept]
    desk: Desk
    pipeline: Pipeline
    image: Image

    def controls(self) -> Iterator[Control]:
        dtype, device = self.pipeline.dtype, self.pipeline.device
        for place, asked in enumerate(self.image.controlnets, start=1):
            model = self.desk.plan.reference("controlnet", asked.name)
            if self._fits(model):
                net = self._kept(model, partial(load_net, Path(model.path), dtype, device))
                yield control(asked, net, self._picture(asked, f"controlnet-{place}"))

    def features(self) -> Iterator[Features]:
        dtype, device = self.pipeline.dtype, self.pipeline.device
        for place, asked in enumerate(self.image.t2i_adapters, start=1):
            model = self.desk.plan.reference("t2i_adapter", asked.name)
            if self._fits(model):
                adapter = self._kept(model, partial(load_adapter, Path(model.path), model.base, dtype, device))
                yield features(asked, adapter, self._picture(asked, f"t2i_adapter-{place}"))

    def prompts(self) -> Iterator[ImagePrompt]:
        for asked in self.image.ip_adapters:
            model = self.desk.plan.reference("ip_adapter", asked.name)
            if self._fits(model):
                yield self._prompt(asked, model)

    def _prompt(self, asked: IPAdapter, model: ModelRef) -> ImagePrompt:
        assert asked.image_encoder is not None
        dtype, device, unet = self.pipeline.dtype, self.pipeline.device, self.pipeline.denoiser.model
        encoder = self.desk.plan.reference("clip_vision", asked.image_encoder)
        prompter = self._kept(model, partial(_load_prompter, model, unet, dtype, device))
        vision = self._kept(encoder, partial(load_vision, Path(encoder.path), dtype, device))
        key = (*self._place(asked.image), asked.method, model.path, model.hash, encoder.path, dtype, device)
        tokens = _TOKENS.get(key, lambda: look(asked, prompter, vision, self.desk.open(asked.image)))
        return ImagePrompt(asked, prompter, *tokens)

    def _fits(self, model: ModelRef) -> bool:
        return model.base == self.pipeline.model.base

    def _kept(self, model: ModelRef, load: Callable[[], T]) -> T:
        """A model from the memory or the disk. Raises ModelMissing, ModelError."""

        def loaded() -> T:
            self.pipelines.make_room(_bytes(Path(model.path)), {self.pipeline, *self.in_use})
            with being_read(model.type, model):
                return load()

        key = model.type, model.path, model.hash, self.pipeline.dtype
        return self.pipelines.keep(key, loaded)

    def _picture(self, asked: ControlNet | T2IAdapter, stem: str) -> Pillow.Image:
        """The control picture at the size of the image. It is kept beside the pictures of steps where those are."""
        key = (*self._place(asked.image), asked.processor, *sorted(asked.processor_options.items()))
        made = _PICTURES.get(key, lambda: self._processed(asked))
        made = fitted(made, (self.image.width, self.image.height), asked.resize_mode)
        if self.image.save_intermediates:
            png = encode(np.asarray(made), {}, COMPRESSION)
            Results(self.desk.folder).publish_control(self.desk.plan, self.image, stem, png)
        return made

    def _processed(self, asked: ControlNet | T2IAdapter) -> Pillow.Image:
        picture, name = self.desk.open(asked.image), asked.processor or NONE
        if not BY_NAME[name].model:
            return processed(picture, name, asked.processor_options)
        model = self.desk.plan.reference(BY_NAME[name].model, name)
        load = partial(load_estimator, Path(model.path), self.pipeline.device)
        return self._kept(model, load).depth(picture)

    def _place(self, asked: str) -> tuple[Hashable, ...]:
        """What tells a picture from all others."""
        return self.desk.folder, asked, self.desk.plan.input(asked).hash


def _load_prompter(model: ModelRef, unet: Any, dtype: torch.dtype, device: torch.device) -> ImagePrompter:
    """An IP-Adapter, from a file or from a folder as InvokeAI has it."""
    path = Path(model.path)
    if path.is_dir():
        path = next((path / name for name in IN_FOLDER if (path / name).is_file()), path / IN_FOLDER[0])
    header = read_header(path)
    tensors = read_tensors(header, [name for name in header.tensors if name.startswith(PARTS)])
    return load_prompter(tensors, model.base, unet, dtype, device)


def _bytes(path: Path) -> int:
    """About as many bytes as a model will take, from its files."""
    files = path.glob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
