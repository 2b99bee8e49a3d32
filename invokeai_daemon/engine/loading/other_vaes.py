"""Other VAEs: those that jobs name instead of a model's own, from a diffusers folder or from the file of a tiny VAE.

Called by the renderer; `pipelines.py` keeps them within its budget of memory. How one computes is in `vae.py`.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

from invokeai_daemon.engine.loading.parts import being_read, bytes_of, read_part
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.loading.vae import Vae, settle_vae
from invokeai_daemon.engine.loading.weights import read_tensors
from invokeai_daemon.errors import ModelError
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.models.header import read_header

if TYPE_CHECKING:
    from invokeai_daemon.engine.loading.pipelines import Kept, Pipelines

CONFIG = "config.json"
#: By the `_class_name` of a folder's config.
KINDS: dict[str, Any] = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
#: What the file of a tiny VAE has, and where the number of its latent channels is seen.
TINY = "decoder.layers.0.weight"


@dataclass(eq=False)
class OtherVae:
    """A VAE of its own, in memory."""

    model: ModelRef
    vae: Vae
    #: Bytes of its weights.
    size: int


def other_vae(pipelines: Pipelines, model: ModelRef, beside: Pipeline, in_use: Collection[Kept]) -> OtherVae:
    """A VAE for pictures of a pipeline, loaded when it is not there.

    Raises ModelMissing when it is gone, ModelError when it cannot be used with that pipeline.
    """

    def load() -> OtherVae:
        loaded = load_vae(model, beside)
        pipelines.make_room(loaded.size, in_use)
        return loaded

    found = pipelines.keep(("vae", model.path, model.hash, beside.dtype, beside.family.has_fragile_vae), load)
    _check_fit(model, found.vae, beside)
    return found


def load_vae(model: ModelRef, beside: Pipeline) -> OtherVae:
    """Load a VAE as the pipeline's own is: its device, its share of the cores, its settings."""
    path = Path(model.path)
    with being_read("VAE", model):
        loaded = _of_folder(path, beside) if path.is_dir() else _of_file(path, beside)
    loaded.requires_grad_(False).eval().to(beside.device)
    settle_vae(loaded, beside.device)
    return OtherVae(model, Vae(loaded, beside.share, beside.vae.settings), bytes_of(loaded))


def _of_folder(path: Path, beside: Pipeline) -> Any:
    config = json.loads((path / CONFIG).read_bytes())
    kind = config.get("_class_name", "AutoencoderKL")
    if kind not in KINDS:
        raise ValueError(f"it is a {kind}; {' and '.join(KINDS)} can be used")
    overflows = beside.family.has_fragile_vae and bool(config.get("force_upcast", True))
    return read_part(KINDS[kind], path, beside.vae.settings.dtype(overflows, beside.device, beside.dtype))


def _of_file(path: Path, beside: Pipeline) -> Any:
    """A tiny VAE; files of others become folders when they are imported."""
    header = read_header(path)
    if TINY not in header.tensors:
        raise ValueError("it is not the file of a tiny VAE; drop it into autoimport/vae/, where it is converted")
    loaded = AutoencoderTiny(latent_channels=header.tensors[TINY].shape[1])
    loaded.load_state_dict(read_tensors(header, list(header.tensors)))
    return loaded.to(beside.vae.settings.dtype(False, beside.device, beside.dtype))


def _check_fit(model: ModelRef, vae: Vae, beside: Pipeline) -> None:
    makes, needs = (
        f"{each.latent_channels} channels at 1/{each.pixels_per_latent} of the size" for each in (vae, beside.vae)
    )
    if makes != needs:
        raise ModelError(
            f'VAE "{model.name}" makes latents of {makes}; model "{beside.model.name}" needs {needs}. '
            f"Use a VAE for {beside.model.base} models."
        )
