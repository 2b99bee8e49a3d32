"""Pipeline: one loaded model, ready to render, and how it is loaded from a diffusers folder without a network.

Loaded by `pipelines.py`, which keeps several. The denoising itself is in `denoise.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from invokeai_daemon.engine.conditioning import Conditioning
from invokeai_daemon.engine.denoisers import Denoiser
from invokeai_daemon.engine.families import FAMILIES, Family, TextEncoder, family_of
from invokeai_daemon.engine.loading.cores import Share, share_of
from invokeai_daemon.engine.loading.memory import Streamed
from invokeai_daemon.engine.loading.parts import being_read, bring, bytes_of, count_parameters, json_of, read_part
from invokeai_daemon.engine.loading.precision import choose_dtype
from invokeai_daemon.engine.loading.steady import make_steady
from invokeai_daemon.engine.loading.vae import USUAL, Vae, VaeSettings, settle_vae
from invokeai_daemon.engine.loras import Outfit, Wardrobe
from invokeai_daemon.engine.scheduling.schedulers import Schedulers
from invokeai_daemon.engine.texts.prompts import Encoded, Encoder, Prompts
from invokeai_daemon.engine.texts.t5 import T5, WordsAlone
from invokeai_daemon.engine.texts.vocabulary import Vocabulary
from invokeai_daemon.errors import ModelError, ModelMissing, RenderError
from invokeai_daemon.job.plan import Image, ModelRef

INDEX = "model_index.json"
VAE = "vae"
#: Sets of LoRAs whose texts are remembered.
OUTFITS = 4


@dataclass(eq=False)
class Pipeline:
    """A loaded model, ready to render."""

    model: ModelRef
    family: Family
    #: What model_index.json says.
    index: Mapping[str, Any]
    denoiser: Denoiser
    vae: Vae
    prompts: Prompts
    schedulers: Schedulers
    device: torch.device
    #: Type of the denoiser and the text encoders; latents and guidance are always float32.
    dtype: torch.dtype
    share: Share
    #: Bytes of all weights.
    size: int
    #: Which of its layers come from the disk for their own forward.
    streamed: Streamed = Streamed.NOTHING
    #: What its models wear.
    wardrobe: Wardrobe = field(init=False)
    #: What was loaded beside it, as long as there is room.
    extras: dict[str, Any] = field(init=False, default_factory=dict)
    #: The texts of images that wear LoRAs, by what these do to the text encoders.
    _dressed: OrderedDict[Outfit, Prompts] = field(init=False, default_factory=OrderedDict)

    def __post_init__(self) -> None:
        encoders = zip(self.family.text_encoders, self.prompts.encoders, strict=False)
        models = {each.folder: encoder.model for each, encoder in encoders}
        self.wardrobe = Wardrobe(self.model, {self.denoiser.folder: self.denoiser.model, **models})
        self.prompts = self.prompts.prepared(partial(self.wardrobe.dress_encoders, ()))

    def prompts_in(self, outfit: Outfit) -> Prompts:
        """The texts of images that wear these LoRAs."""
        of_texts = self.wardrobe.of_texts(outfit)
        if not of_texts:
            return self.prompts
        if of_texts not in self._dressed:
            self._dressed[of_texts] = self.prompts.prepared(partial(self.wardrobe.dress_encoders, of_texts))
        self._dressed.move_to_end(of_texts)
        if len(self._dressed) > OUTFITS:
            self._dressed.popitem(last=False)
        return self._dressed[of_texts]

    def forget(self) -> None:
        """Keep nothing that can be made again."""
        self.extras.clear()
        self._dressed.clear()
        self.prompts.forget()
        self.wardrobe.forget()

    @property
    def latent_channels(self) -> int:
        return self.vae.latent_channels

    @property
    def pixels_per_latent(self) -> int:
        """The side of the square of pixels that one latent stands for."""
        return self.vae.pixels_per_latent

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        factor = self.pixels_per_latent
        return 1, self.latent_channels, height // factor, width // factor

    def tell(self, image: Image, texts: Sequence[Encoded]) -> Conditioning:
        """What the denoiser is told of an image, a row for each of its encoded texts.

        Raises RenderError when the image is larger than the denoiser has places for.
        """
        most = self.denoiser.largest
        if most is not None and max(image.width, image.height) > most * self.pixels_per_latent:
            raise RenderError(
                f'model "{self.model.name}" makes pictures of at most {most * self.pixels_per_latent} pixels along a '
                f"side, and {image.width} × {image.height} were asked. Ask for a smaller one."
            )
        return self.family.tell(image, texts, self.index)


def weight_of(
    model: ModelRef,
    device: torch.device,
    precision: str,
    vae_settings: VaeSettings = USUAL,
    streamed: Streamed = Streamed.NOTHING,
) -> int:
    """Bytes that the weights of a model take in memory; 0 where `load_pipeline` will say what is wrong."""
    folder, family = Path(model.path), family_of(model)
    if family is None or not (folder / INDEX).is_file():
        return 0
    try:
        parameters = count_parameters(folder / family.denoiser.folder)
        dtype = choose_dtype(precision, device, parameters, family.accelerated)
        of_vae = vae_dtype(family, folder / VAE, device, dtype, vae_settings)
        return _size_to_be(family, folder, dtype, of_vae, streamed)
    # Whatever is wrong with the folder, loading it will say so better.
    except Exception:  # noqa: BLE001
        return 0


def load_pipeline(
    model: ModelRef,
    device: torch.device,
    precision: str,
    cores: int,
    make_room: Callable[[int], None] = lambda needed: None,
    streamed: Streamed = Streamed.NOTHING,
    vae_settings: VaeSettings = USUAL,
) -> Pipeline:
    """Load a diffusers folder; before, `make_room` is told how many bytes its weights will take in memory.

    Layers that are `streamed` stay on the disk until their own forward.
    Raises ModelMissing when the folder is gone, ModelError when it cannot be used.
    """
    folder = Path(model.path)
    if not (folder / INDEX).is_file():
        raise ModelMissing(f'model "{model.name}": {folder} is not there any more. Import the model again.')
    family = family_of(model)
    if family is None:
        raise ModelError(f'model "{model.name}" is a {model.base} model; {", ".join(FAMILIES)} models can be loaded.')
    with being_read("model", model):
        return _load(model, family, device, precision, cores, make_room, streamed, vae_settings)


def _load(
    model: ModelRef,
    family: Family,
    device: torch.device,
    precision: str,
    cores: int,
    make_room: Callable[[int], None],
    streamed: Streamed,
    vae_settings: VaeSettings,
) -> Pipeline:
    folder = Path(model.path)
    parameters = count_parameters(folder / family.denoiser.folder)
    dtype = choose_dtype(precision, device, parameters, family.accelerated)
    dtype_of_vae = vae_dtype(family, folder / VAE, device, dtype, vae_settings)
    make_room(_size_to_be(family, folder, dtype, dtype_of_vae, streamed))
    is_streamed = streamed is Streamed.ALL
    denoiser = family.denoiser(read_part(family.denoiser.kind, folder / family.denoiser.folder, dtype, is_streamed))
    vae = read_part(AutoencoderKL, folder / VAE, dtype_of_vae, is_streamed)
    encoders = [_encoder(each, folder, dtype, streamed > Streamed.NOTHING) for each in text_encoders(family, folder)]
    parts = [denoiser.model, vae, *(encoder.model for encoder in encoders)]
    _settle(denoiser, vae, encoders, device)
    for part in parts:
        bring(part, device)
    share = share_of(parameters, device, cores)
    return Pipeline(
        model=model,
        family=family,
        index=json_of(folder / INDEX),
        denoiser=denoiser,
        vae=Vae(vae, share, vae_settings),
        prompts=_prompts(family, encoders, denoiser),
        schedulers=Schedulers(_scheduler_config(folder, model), family.levels),
        device=device,
        dtype=dtype,
        share=share,
        size=sum(bytes_of(part) for part in parts),
        streamed=streamed,
    )


def text_encoders(family: Family, folder: Path) -> list[TextEncoder]:
    """The text encoders of a model: its family's, but for a T5 that it goes without."""
    *others, last = family.text_encoders
    is_there = (folder / last.folder).is_dir() and (folder / last.tokenizer).is_dir()
    return [*others, last] if is_there or not family.is_t5_optional else others


def _encoder(each: TextEncoder, folder: Path, dtype: torch.dtype, is_streamed: bool) -> Encoder:
    tokenizer = Vocabulary(each.tokenizer_kind.from_pretrained(folder / each.tokenizer, local_files_only=True))
    model = read_part(each.kind, folder / each.folder, dtype, is_streamed)
    if each.length is not None:
        return T5(tokenizer, model, length=each.length)
    return Encoder(tokenizer, model, each.is_penultimate, each.is_pooled)


def _prompts(family: Family, encoders: Sequence[Encoder], denoiser: Denoiser) -> Prompts:
    if family.join is None:
        return Prompts(encoders)
    last = family.text_encoders[-1]
    is_absent = len(encoders) < len(family.text_encoders) and last.length is not None
    absent = (last.length or 0, int(denoiser.model.config.joint_attention_dim)) if is_absent else None
    return WordsAlone(encoders, family.join, absent)


def vae_dtype(
    family: Family, folder: Path, device: torch.device, dtype: torch.dtype, settings: VaeSettings
) -> torch.dtype:
    """The type of the VAE in a folder, for pictures of a family."""
    overflows = family.has_fragile_vae and json_of(folder / "config.json").get("force_upcast", True)
    return settings.dtype(overflows, device, dtype)


def _settle(denoiser: Denoiser, vae: Any, encoders: Sequence[Encoder], device: torch.device) -> None:
    """Bring the layers into the form that is steady on a CPU and fast on an accelerator."""
    if device.type == "cpu":
        for part in (denoiser.model, *(encoder.model for encoder in encoders)):
            make_steady(part)
    else:
        denoiser.model.to(memory_format=denoiser.memory_format)
    settle_vae(vae, device)


def _size_to_be(family: Family, folder: Path, dtype: torch.dtype, vae_dtype: torch.dtype, streamed: Streamed) -> int:
    """Bytes of the weights in memory, whatever type they have on the disk."""
    if streamed is Streamed.ALL:
        return 0
    encoders = text_encoders(family, folder) if streamed is Streamed.NOTHING else []
    parts = [family.denoiser.folder, *(encoder.folder for encoder in encoders)]
    parameters = sum(count_parameters(folder / part) for part in parts)
    return parameters * dtype.itemsize + count_parameters(folder / VAE) * vae_dtype.itemsize


def _scheduler_config(folder: Path, model: ModelRef) -> dict[str, Any]:
    config = json_of(folder / "scheduler" / "scheduler_config.json")
    if model.prediction_type and model.prediction_type != "flow":
        config["prediction_type"] = model.prediction_type
    return config
