"""Lanes: images in progress. A lane is all that one image needs between two steps; the loop knows nothing else.

Made by the renderer when an image starts, advanced by `denoise.py`, read by `decode.py`. What a later mode adds (an
initial image, a mask, control images) is state of the lane; the loop stays one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from invokeai_daemon.engine.beginning import FROM_NOISE, Beginning, all_masked, sees_masks
from invokeai_daemon.engine.conditioning import Conditioning
from invokeai_daemon.engine.controls.forward import NOTHING, Attached, Row
from invokeai_daemon.engine.denoisers import UNet
from invokeai_daemon.engine.guidance import guided
from invokeai_daemon.engine.hooks import Hook, hooks_of
from invokeai_daemon.engine.loading.other_vaes import OtherVae
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.loading.vae import Vae
from invokeai_daemon.engine.loras import Outfit
from invokeai_daemon.engine.noise import first_noise
from invokeai_daemon.engine.scheduling.schedulers import (
    draw_along_a_path,
    expected_end,
    noised,
    part_of_run,
    step_arguments,
)
from invokeai_daemon.engine.texts.prompts import Encoded, Styled, Text
from invokeai_daemon.engine.texts.script import Script, script_of
from invokeai_daemon.engine.texts.unheeded import unheeded
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.prompt.tree import Conjunction, Prompt
from invokeai_daemon.job.prompt.understand import understood


@dataclass(eq=False)
class Lane:
    """One image between two steps."""

    image: Image
    pipeline: Pipeline
    #: [1, channels, height / 8, width / 8], float32.
    latents: Tensor
    #: diffusers' scheduler, this lane's own: it remembers the steps done.
    scheduler: Any
    #: The part of the scheduler's timesteps that this lane makes, one for each evaluation of the denoiser.
    timesteps: Tensor
    #: What `scheduler.step` takes besides tensors, such as the generator that drew the first noise and draws on.
    step_arguments: dict[str, Any]
    #: What the denoiser is told in this step, of the negative prompt, unless guidance is off, then of the prompt: 1 or
    #: 2 rows, and more where some are only looked at.
    conditioning: Conditioning
    #: What it is told in each step, where that changes.
    script: Script | None = None
    #: What is done to the latents after each step.
    hooks: tuple[Hook, ...] = ()
    #: What the denoiser sees beside the latents, [1, more channels, height / 8, width / 8]; or one for each row.
    beside: Tensor | None = None
    #: ControlNets, T2I-Adapters and IP-Adapters with what they make of their pictures.
    attached: Attached = NOTHING
    #: How closely to follow a picture that stands beside; None where no picture guides.
    picture_scale: float | None = None
    #: The VAE that the image names instead of the model's own.
    other_vae: OtherVae | None = None
    #: True for an image that must share no forward with others.
    alone: bool = False
    #: Its rows are computed one after the other, since memory is short.
    is_sequential: bool = False
    #: The LoRAs that the denoiser wears for it.
    outfit: Outfit = ()
    warnings: list[str] = field(default_factory=list)
    #: How the prompts were split into tokens, if that is asked for.
    tokenization: dict[str, Any] | None = None
    #: Evaluations of the denoiser that are done.
    index: int = 0
    #: What the latents are expected to become, after a step of which a picture is wanted.
    expected: Tensor | None = None

    @property
    def vae(self) -> Vae:
        """What makes a picture of its latents."""
        return self.pipeline.vae if self.other_vae is None else self.other_vae.vae

    @property
    def rows(self) -> int:
        """Rows that the lane takes in a forward."""
        return self.conditioning.rows

    @property
    def is_done(self) -> bool:
        return self.index >= len(self.timesteps)

    @property
    def timestep(self) -> Tensor:
        return self.timesteps[self.index]

    @property
    def step(self) -> int:
        """Steps that are done, 0 … image.steps; second-order schedulers evaluate it twice for one."""
        return self.index * self.image.steps // max(1, len(self.timesteps))

    @property
    def group(self) -> tuple[object, ...]:
        """Lanes with equal groups can share a forward."""
        tokens = self.conditioning.texts.shape[1]
        shape, alone = tuple(self.latents.shape), self if self.alone else None
        return self.pipeline, shape, tokens, self.image.company, self.outfit, alone

    @property
    def controlled(self) -> list[Row]:
        """The lane's rows of the next forward as its controls see them."""
        # With a picture beside it, the first two rows are without the prompt.
        others = 0 if self.image.cfg_scale == 1 else 2 if self.picture_scale is not None else 1
        place = self.index, len(self.timesteps)
        return [Row(self.attached, *place, is_negative=number < others) for number in range(self.rows)]

    def model_input(self) -> Tensor:
        """The latents as the denoiser takes them, [rows, channels, h, w]."""
        seen = self.scheduler.scale_model_input(self.latents, self.timestep)
        seen = torch.cat([seen] * self.rows)
        if self.beside is None:
            return seen
        # Of rows that guidance leaves out, what is beside them is left out, too.
        beside = self.beside[-self.rows :].expand(self.rows, -1, -1, -1)
        return torch.cat([seen, beside], dim=1)

    def advance(self, prediction: Tensor) -> None:
        """One step, from what the denoiser says about this lane's rows, [rows, channels, h, w] in float32."""
        image = self.image
        prediction = self.conditioning.results(prediction)
        prediction = guided(prediction, image.cfg_scale, image.cfg_rescale_multiplier, self.picture_scale)
        self.expected = self._expected_end(prediction)
        stepped = self.scheduler.step(prediction, self.timestep, self.latents, **self.step_arguments, return_dict=False)
        self.latents = stepped[0]
        for hook in self.hooks:
            self.latents = hook(self.latents, self.index, len(self.timesteps))
        self.index += 1
        if self.script is not None:
            self.conditioning = self.script.at(self.index, len(self.timesteps))

    def _expected_end(self, prediction: Tensor) -> Tensor | None:
        every, is_last = self.image.save_intermediates, self.index == len(self.timesteps) - 1
        if not every or (self.index % every and not is_last):
            return None
        return expected_end(self.scheduler, prediction, self.timestep, self.latents)


def texts_of(image: Image) -> list[Text]:
    """The texts whose conditioning the image needs, in the order of its rows; last what it becomes by a swap."""
    seen = understood(image)
    # Guidance of exactly 1 gives the prompt's own prediction, so the negative prompt's row is left out.
    texts = [] if image.cfg_scale == 1 else [_text(seen.negative, seen.negative_style)]
    positive = [seen.positive.original, *([seen.positive.edited] if seen.positive.swapped else [])]
    return [*texts, *(_text(tree, seen.style) for tree in positive)]


def _text(tree: Conjunction, style: Conjunction | None) -> Text:
    plainest = _plainest(tree)
    return plainest if style is None else Styled(plainest, _plainest(style))


def _plainest(tree: Conjunction) -> str | Conjunction:
    return tree if tree.plain_text is None else tree.plain_text


def encode_texts(pipeline: Pipeline, images: Sequence[Image], outfit: Outfit = ()) -> dict[int, dict[Text, Encoded]]:
    """All texts of some images of one outfit, by their clip skip; equal ones are encoded once, and many together."""
    prompts = pipeline.prompts_in(outfit)
    return {
        skipped: prompts.encode((text for image in several for text in texts_of(image)), skipped)
        for skipped, several in groupby(sorted(images, key=_clip_skip), _clip_skip)
    }


def _clip_skip(image: Image) -> int:
    return image.clip_skip


def start_lane(
    pipeline: Pipeline,
    image: Image,
    encoded: dict[Text, Encoded],
    alone: bool = False,
    beginning: Beginning = FROM_NOISE,
    outfit: Outfit = (),
) -> Lane:
    """A lane before its first step. `encoded` holds at least the image's own texts. Raises RenderError."""
    fits_not = pipeline.wardrobe.fit(outfit)
    prompts = pipeline.prompts_in(outfit)
    if image.clip_skip > pipeline.prompts.spare_layers:
        raise RenderError(
            f"clip_skip {image.clip_skip} leaves nothing of the text encoder. "
            f'Model "{pipeline.model.name}" can do without {pipeline.prompts.spare_layers} of its last layers.'
        )
    if problems := understood(image).problems:
        raise RenderError(" ".join(str(problem) for problem in problems))
    shape = pipeline.latent_shape(image.width, image.height)
    beside = beginning.beside
    if beside is None and sees_masks(pipeline):
        beside = all_masked(pipeline, image.width, image.height)
    seen = pipeline.latent_channels + (0 if beside is None else beside.shape[1])
    if pipeline.denoiser.in_channels != seen:
        raise RenderError(
            f'model "{pipeline.model.name}" takes {pipeline.denoiser.in_channels} channels, and here are {seen}: it '
            "was trained for another kind of picture than this job asks for. Choose another model."
        )
    scheduler = pipeline.schedulers.new(image.scheduler, image.steps, shape)
    timesteps = part_of_run(scheduler, image.denoising_start, image.denoising_end, beginning.strength)
    if beginning.strength and not len(timesteps):
        raise RenderError(
            f"none of the {image.steps} steps lies between denoising_start {image.denoising_start:g} and denoising_end "
            f"{image.denoising_end:g}. Ask for more steps, or for a larger part of the run."
        )
    noise, generator = beginning.drawn or first_noise(image, shape)
    draw_along_a_path(scheduler, generator.initial_seed(), noise.shape, pipeline.device)
    noise = noise.to(pipeline.device)
    texts = prompts.level([encoded[text] for text in texts_of(image)], image.clip_skip)
    script = None
    if prompt := understood(image).positive.swapped:
        script = _script(pipeline, image, prompt, texts, beginning)
        texts = texts[:-1]
    if beginning.picture_scale is not None and len(texts) > 1:
        # Without the picture and without the prompt, then with the picture alone.
        texts = [texts[0], *texts]
    cuts = [_cut_warning(text.cut) for text in texts if text.cut]
    return Lane(
        image=image,
        pipeline=pipeline,
        latents=_first_latents(scheduler, noise, timesteps, beginning),
        scheduler=scheduler,
        timesteps=timesteps,
        step_arguments=step_arguments(scheduler, generator),
        conditioning=pipeline.tell(image, texts) if script is None else script.at(0, len(timesteps)),
        script=script,
        hooks=(*hooks_of(image, generator), *(make(scheduler, noise, timesteps) for make in beginning.hooks)),
        beside=beside,
        picture_scale=beginning.picture_scale,
        alone=alone,
        outfit=outfit,
        warnings=[
            *fits_not,
            *understood(image).warnings,
            *cuts,
            *unheeded(pipeline, image),
            *pipeline.schedulers.warnings(scheduler),
        ],
        tokenization=pipeline.prompts.tokenization(image) if image.log_tokenization else None,
    )


def _script(pipeline: Pipeline, image: Image, prompt: Prompt, texts: Sequence[Encoded], beginning: Beginning) -> Script:
    if not isinstance(pipeline.denoiser, UNet) or beginning.picture_scale is not None:
        raise RenderError(
            f'model "{pipeline.model.name}" knows no .swap(…): ordinary sd-1, sd-2 and sdxl models do. '
            "Write one of the two, or choose another model."
        )
    *others, original, edited = texts
    told = [pipeline.tell(image, [*others, each]) for each in (original, edited)]
    return script_of(prompt, pipeline.prompts.encoders[0].tokenizer, *told)


def _first_latents(scheduler: Any, noise: Tensor, timesteps: Tensor, beginning: Beginning) -> Tensor:
    if beginning.latents is None:
        return noised(scheduler, noise, timesteps)
    if beginning.is_noisy or not len(timesteps):
        return beginning.latents
    return scheduler.add_noise(beginning.latents, noise, timesteps[:1])  # type: ignore[no-any-return]


def _cut_warning(cut: str) -> str:
    return f'the prompt is longer than the model reads; this part had no effect: "{cut}"'
