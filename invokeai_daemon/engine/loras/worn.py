"""Worn: the LoRAs that an image asks for, resolved. What lanes are grouped by and texts are remembered with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from invokeai_daemon.engine.loading.weights import weight_file
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.plan import Image, ModelRef, Plan


@dataclass(frozen=True)
class Worn:
    """A LoRA and how much of it."""

    model: ModelRef
    #: Of its part for what denoises, and of its part for text encoders.
    weight: float
    text_encoder_weight: float
    #: Tells a file from another one that takes its place: inode, size, and time of change in nanoseconds.
    version: tuple[int, ...] = ()


def worn_by(plan: Plan, image: Image, model: ModelRef) -> tuple[Worn, ...]:
    """What an image wears with a model; LoRAs of weight 0 are not worn. Raises RenderError.

    In a pass with another model than the job's, such as a refiner, only the LoRAs of that model's base are worn.
    """
    resolved = []
    for lora in image.loras:
        reference = plan.reference("lora", lora.name)
        weight = 1.0 if lora.weight is None else lora.weight
        of_texts = weight if lora.text_encoder_weight is None else lora.text_encoder_weight
        if (weight or of_texts) and (model == plan.model or reference.base == model.base):
            # However a job calls it, it is the same LoRA.
            resolved.append(Worn(replace(reference, asked=""), weight, of_texts, _version(reference)))
    return tuple(resolved)


def _version(reference: ModelRef) -> tuple[int, ...]:
    try:
        status = weight_file(reference).stat()
    except OSError as error:
        raise RenderError(
            f'The LoRA "{reference.name}" cannot be read: {reference.path}: {error.strerror}. Put it back, or leave it '
            "out of the job."
        ) from error
    return status.st_ino, status.st_size, status.st_mtime_ns
