"""Pipelines: models in memory, loaded from diffusers folders without a network, the least recently used given up first.

Called by the renderer. A pipeline is the models and what is derived from them; the denoising itself is in `denoise.py`.
"""

from __future__ import annotations

import atexit
import gc
import json
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from invokeai_daemon.engine.cores import Share, share_of
from invokeai_daemon.engine.precision import choose_dtype
from invokeai_daemon.engine.prompts import Prompts
from invokeai_daemon.engine.schedulers import Schedulers
from invokeai_daemon.engine.steady import keep_plain_layout, make_steady
from invokeai_daemon.errors import ModelError, ModelMissing
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.settings import RenderSettings

#: Share of the memory that loaded models may take when the settings do not say.
MEMORY_SHARE = 0.5
WEIGHTS = "*.safetensors"


@dataclass(eq=False)
class Pipeline:
    """A loaded model, ready to render."""

    model: ModelRef
    unet: Any
    vae: Any
    prompts: Prompts
    schedulers: Schedulers
    device: torch.device
    #: Type of the UNet and the text encoder; latents and guidance are always float32.
    dtype: torch.dtype
    share: Share
    #: Bytes of all weights.
    size: int

    @property
    def latent_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    @property
    def pixels_per_latent(self) -> int:
        """The side of the square of pixels that one latent stands for."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        factor = self.pixels_per_latent
        return 1, self.latent_channels, height // factor, width // factor


def load_pipeline(model: ModelRef, device: torch.device, precision: str, cores: int) -> Pipeline:
    """Load a diffusers folder. Raises ModelMissing when it is gone, ModelError when it cannot be used."""
    folder = Path(model.path)
    if not (folder / "model_index.json").is_file():
        raise ModelMissing(f'model "{model.name}": {folder} is not there any more. Import the model again.')
    try:
        return _load(model, folder, device, precision, cores)
    except (torch.OutOfMemoryError, torch.AcceleratorError, MemoryError):
        raise
    # Broken folders surface as almost any error of the loading libraries; each becomes one sentence about this model.
    except Exception as error:
        raise ModelError(
            f'model "{model.name}" could not be loaded from {folder}: {error or type(error).__name__}. '
            "Import it again, or remove it from configs/models.yaml."
        ) from error


def _load(model: ModelRef, folder: Path, device: torch.device, precision: str, cores: int) -> Pipeline:
    parameters = _parameters(folder / "unet")
    dtype = choose_dtype(precision, device, parameters)
    unet = _weights(UNet2DConditionModel, folder / "unet", dtype)
    # Eight bits of mantissa band smooth skies, so on a CPU the decoder stays exact; it is one step's work.
    vae = _weights(AutoencoderKL, folder / "vae", torch.float32 if device.type == "cpu" else dtype)
    text_encoder = CLIPTextModel.from_pretrained(
        folder / "text_encoder", local_files_only=True, dtype=dtype, use_safetensors=True
    )
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    for part in (unet, vae, text_encoder):
        part.requires_grad_(False).eval().to(device)
    _settle(unet, vae, device)
    return Pipeline(
        model=model,
        unet=unet,
        vae=vae,
        prompts=Prompts(tokenizer, text_encoder),
        schedulers=Schedulers(_scheduler_config(folder, model)),
        device=device,
        dtype=dtype,
        share=share_of(parameters, device, cores),
        size=sum(_bytes(part) for part in (unet, vae, text_encoder)),
    )


def _settle(unet: Any, vae: Any, device: torch.device) -> None:
    """Bring the layers into the form that is steady on a CPU and fast on an accelerator."""
    if device.type == "cpu":
        for part in (unet, vae.decoder, vae.post_quant_conv):
            make_steady(part)
        for attention in vae.decoder.mid_block.attentions:
            keep_plain_layout(attention)
    else:
        unet.to(memory_format=torch.channels_last)
        vae.to(memory_format=torch.channels_last)


def _weights(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    variant = "fp16" if not _has_plain_weights(folder) else None
    return kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, torch_dtype=dtype, variant=variant)


def _has_plain_weights(folder: Path) -> bool:
    return any(".fp16." not in path.name for path in folder.glob(WEIGHTS))


def _parameters(folder: Path) -> int:
    """How many numbers the weight files of a folder hold, from their headers."""
    from safetensors import safe_open

    count = 0
    for path in folder.glob(WEIGHTS):
        with safe_open(path, framework="pt") as file:
            count += sum(torch.Size(file.get_slice(key).get_shape()).numel() for key in file.keys())  # noqa: SIM118
    return count


def _bytes(part: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*part.parameters(), *part.buffers()))


def _scheduler_config(folder: Path, model: ModelRef) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "scheduler" / "scheduler_config.json").read_bytes())
    if model.prediction_type:
        config["prediction_type"] = model.prediction_type
    return config


class Pipelines:
    """The loaded pipelines, within a budget of memory."""

    def __init__(self, settings: RenderSettings, device: torch.device, cores: int) -> None:
        self.settings, self.device, self.cores = settings, device, cores
        self.budget = int(settings.cache_gb * 1e9) or _default_budget(device)
        self._loaded: OrderedDict[tuple[str, str], Pipeline] = OrderedDict()

    def has(self, model: ModelRef) -> bool:
        return _key(model) in self._loaded

    def peek(self, model: ModelRef) -> Pipeline | None:
        """The pipeline of a model if it is loaded."""
        return self._loaded.get(_key(model))

    def get(self, model: ModelRef, in_use: Collection[Pipeline], loading: Callable[[], None]) -> Pipeline:
        """The pipeline of a model; when it must be loaded, `loading` is called and others may be given up.

        Pipelines `in_use` are kept. Raises what `load_pipeline` raises.
        """
        pipeline = self._loaded.get(_key(model))
        if pipeline is None:
            loading()
            self._make_room(_bytes_on_disk(Path(model.path)), in_use)
            pipeline = load_pipeline(model, self.device, self.settings.precision, self.cores)
            self._loaded[_key(model)] = pipeline
            _settle_garbage()
        self._loaded.move_to_end(_key(model))
        return pipeline

    def _make_room(self, needed: int, in_use: Collection[Pipeline]) -> None:
        for key, pipeline in list(self._loaded.items()):
            if needed + sum(each.size for each in self._loaded.values()) <= self.budget:
                return
            if pipeline not in in_use:
                del self._loaded[key], pipeline
                _settle_garbage()

    def give_up_others(self, in_use: Collection[Pipeline]) -> bool:
        """Give up every pipeline that is not in use, after memory ran out. False when there was none."""
        spare = [key for key, pipeline in self._loaded.items() if pipeline not in in_use]
        for key in spare:
            del self._loaded[key]
        _settle_garbage()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return bool(spare)


def _settle_garbage() -> None:
    """Free what was given up, cycles included, and tell the collector to leave alone what remains.

    Otherwise it would walk through a million objects of torch and the models again and again.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


# What is frozen at the end of the process looks like a leak to libraries that count their objects.
atexit.register(gc.unfreeze)


def _key(model: ModelRef) -> tuple[str, str]:
    return model.path, model.hash


def _bytes_on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob(WEIGHTS))


def _default_budget(device: torch.device) -> int:
    total = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else psutil.virtual_memory().total
    return int(total * MEMORY_SHARE)
