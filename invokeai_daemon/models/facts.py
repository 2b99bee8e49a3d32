"""Facts: what the keys and shapes of a weight file, or the configs of a diffusers folder, say. The tables judge them.

Called by `identify`. Every fact carries the sentence that is shown as evidence. Tensors are never read.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import UnreadableModel, UnsafeModel
from invokeai_daemon.models.header import Header, TensorInfo, opened

#: Parts of a single file: by which beginnings of keys they are known, and what they are called.
PARTS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "unet": (("model.diffusion_model.input_blocks.",), "a UNet in the layout of the original Stable Diffusion"),
    "bare unet": (("input_blocks.",), "a UNet without the prefix model.diffusion_model."),
    "diffusers unet": (("down_blocks.",), "blocks named as in the unet/ of a diffusers folder"),
    "mmdit": (("model.diffusion_model.joint_blocks.", "joint_blocks."), "the transformer blocks of SD 3"),
    "flux": (("model.diffusion_model.double_blocks.", "double_blocks."), "the transformer blocks of FLUX"),
    "vae": (("first_stage_model.encoder.", "first_stage_model.decoder."), "a VAE (first_stage_model.…)"),
    "bare vae": (("encoder.conv_in.", "decoder.conv_in."), "the encoder and decoder of a VAE, alone"),
    "clip": (
        ("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer.embeddings."),
        "a CLIP text encoder (cond_stage_model.transformer.…)",
    ),
    "open_clip": (("cond_stage_model.model.",), "an OpenCLIP text encoder (cond_stage_model.model.…)"),
    "conditioner": (("conditioner.embedders.",), "the text encoders of SDXL (conditioner.embedders.…)"),
    "text_encoders": (("text_encoders.",), "several text encoders (text_encoders.…)"),
    "bare clip": (("text_model.encoder.", "text_model.embeddings."), "a CLIP text encoder, alone"),
    "controlnet": (
        (
            "control_model.",
            "controlnet_mid_block.",
            "controlnet_cond_embedding.",
            "controlnet_blocks.",
            "input_hint_block.",
        ),
        "the control branch of a ControlNet",
    ),
    "ip_adapter": (("ip_adapter.", "image_proj.", "ip_adapter_proj_model."), "the projections of an IP-Adapter"),
    "t2i_adapter": (("adapter.body.", "body.0.resnets.", "adapter.conv_in."), "the blocks of a T2I-Adapter"),
    "embedding": (("string_to_param.", "emb_params", "clip_g", "clip_l"), "the vectors of a textual inversion"),
    "upscaler": (("conv_first.", "params_ema.", "params.conv_first.", "model.0.weight"), "the layers of an upscaler"),
    "class_vector": (("model.diffusion_model.label_emb.",), "an input for a size vector (label_emb)"),
    "ema": (("model_ema.",), "averaged weights (model_ema.…)"),
}

_LORA_ENDS = (
    ".lora_down.weight",
    ".lora_up.weight",
    ".lora_A.weight",
    ".lora_B.weight",
    ".hada_w1_a",
    ".lokr_w1",
    ".lokr_w1_a",
    "to_k_lora.up.weight",
)

#: Where the width of the text conditioning can be read, one pattern per dialect; the second dimension is the width.
_CONTEXT_KEYS = (
    re.compile(r"model\.diffusion_model\..*\.attn2\.to_k\.weight"),
    re.compile(r"(?:control_model\.)?(?:input_blocks|down_blocks)\..*\.attn2\.to_k\.weight"),
    re.compile(r"lora_unet_.*attn2_to_k\.(?:lora_down\.weight|hada_w1_b)"),
    re.compile(r"(?:unet\.)?.*\.attn2\.to_k\.lora_A\.weight"),
    re.compile(r"ip_adapter\.1\.to_k_ip\.weight"),
)


@dataclass(frozen=True)
class Facts:
    """What is known of a model. A number that is None was not found."""

    #: "file" (original single-file layout) or "folder" (diffusers)
    layout: str
    #: Keys of `PARTS`, and "lora", "class_vector".
    parts: frozenset[str]
    #: Number of tensors; 0 for a folder.
    tensors: int = 0
    #: Width of the text conditioning that the UNet, adapter or branch takes.
    context_width: int | None = None
    #: Channels that the UNet takes: latents, and mask and masked picture when it inpaints.
    in_channels: int | None = None
    #: Width of the text encoder's hidden states.
    text_width: int | None = None
    #: Channels of the VAE's latents.
    latent_channels: int | None = None
    #: Width of a textual inversion's vectors.
    vector_width: int | None = None
    #: Whether attention blocks project with a linear layer (SD-2, SDXL) or a convolution (SD-1).
    linear_projection: bool | None = None
    #: epsilon, v_prediction or sample, where the file says it.
    prediction_type: str | None = None
    #: The pipeline class of a folder.
    pipeline: str = ""
    #: Fact or part -> the sentence that shows it.
    seen: Mapping[str, str] = field(default_factory=dict)


def of_header(header: Header) -> Facts:
    """The facts of a weight file."""
    tensors = header.tensors
    seen: dict[str, str] = {}
    parts = _parts(tensors, seen)
    return Facts(
        "file",
        parts,
        len(tensors),
        context_width=_context_width(tensors, seen),
        in_channels=_dimension(tensors, _FIRST_CONVOLUTION, 1, seen, "in_channels", "takes {} input channels"),
        text_width=_text_width(tensors, seen),
        latent_channels=_latent_channels(tensors, seen),
        vector_width=_vector_width(tensors, seen) if parts <= {"embedding"} else None,
        linear_projection=_linear_projection(tensors, seen),
        prediction_type=_prediction_type(header, seen),
        seen=seen,
    )


_FIRST_CONVOLUTION = "model.diffusion_model.input_blocks.0.0.weight"


def _parts(tensors: Mapping[str, TensorInfo], seen: dict[str, str]) -> frozenset[str]:
    names = sorted(tensors)
    for part, (beginnings, meaning) in PARTS.items():
        if any(_begins(names, beginning) for beginning in beginnings):
            seen[part] = f"it has {meaning}"
    lora = next((name for name in names if name.endswith(_LORA_ENDS)), None)
    if lora:
        seen["lora"] = f"it has low-rank matrices ({shorten(lora)})"
    return frozenset(seen)


def _begins(names: list[str], beginning: str) -> bool:
    """Whether one of the sorted names begins so."""
    place = bisect_left(names, beginning)
    return place < len(names) and names[place].startswith(beginning)


def _context_width(tensors: Mapping[str, TensorInfo], seen: dict[str, str]) -> int | None:
    for pattern in _CONTEXT_KEYS:
        name = next((name for name in tensors if "to_k" in name and pattern.fullmatch(name)), None)
        if name and len(tensors[name].shape) >= 2:
            return _dimension(tensors, name, 1, seen, "context_width", "has context width {}")
    return None


def _text_width(tensors: Mapping[str, TensorInfo], seen: dict[str, str]) -> int | None:
    for name in (
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
        "cond_stage_model.transformer.embeddings.token_embedding.weight",
        "cond_stage_model.model.token_embedding.weight",
    ):
        if name in tensors:
            return _dimension(tensors, name, 1, seen, "text_width", "has width {}")
    return None


def _latent_channels(tensors: Mapping[str, TensorInfo], seen: dict[str, str]) -> int | None:
    for name in ("first_stage_model.decoder.conv_in.weight", "decoder.conv_in.weight"):
        if name in tensors:
            return _dimension(tensors, name, 1, seen, "latent_channels", "takes {} latent channels")
    return None


def _vector_width(tensors: Mapping[str, TensorInfo], seen: dict[str, str]) -> int | None:
    """The last dimension of the few, small tensors of a textual inversion."""
    shapes = {tensor.shape for tensor in tensors.values()}
    if not shapes or len(tensors) > 9 or any(not 1 <= len(shape) <= 2 for shape in shapes):
        return None
    name = next(iter(tensors))
    return _dimension(tensors, name, -1, seen, "vector_width", "has vectors of width {}")


def _dimension(
    tensors: Mapping[str, TensorInfo], name: str, axis: int, seen: dict[str, str], fact: str, sentence: str
) -> int | None:
    tensor = tensors.get(name)
    if tensor is None or not -len(tensor.shape) <= axis < len(tensor.shape):
        return None
    size = tensor.shape[axis]
    seen[fact] = f"{shorten(name)} {sentence.format(size)}"
    return size


def _linear_projection(tensors: Mapping[str, TensorInfo], seen: dict[str, str]) -> bool | None:
    name = next((n for n in tensors if n.startswith("model.diffusion_model.") and n.endswith(".proj_in.weight")), None)
    if name is None:
        return None
    linear = len(tensors[name].shape) == 2
    seen["linear_projection"] = f"{shorten(name)} is a {'linear layer' if linear else 'convolution'}"
    return linear


def _prediction_type(header: Header, seen: dict[str, str]) -> str | None:
    """Where a file says what its UNet predicts: marker keys, or the metadata of the modelspec standard."""
    if "v_pred" in header.tensors:
        seen["prediction_type"] = "the marker v_pred says v_prediction"
        return "v_prediction"
    said = header.metadata.get("modelspec.prediction_type", "").lower()
    meaning = {"epsilon": "epsilon", "eps": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}.get(said)
    if meaning:
        seen["prediction_type"] = f"its metadata modelspec.prediction_type says {meaning}"
    return meaning


def shorten(name: str) -> str:
    """A key for a sentence: printable, and its middle left out when it is long."""
    shown = ascii(name)[1:-1]
    return shown if len(shown) <= 80 else f"{shown[:38]}…{shown[-38:]}"


# Folders

#: Where diffusers may import a pipeline's parts from; any other name in model_index.json would be imported, too.
_LIBRARIES = {None, "diffusers", "transformers", "stable_diffusion"}
_MAX_CONFIG = 1024 * 1024


def of_folder(folder: Path) -> Facts:
    """The facts of a diffusers folder, from its configs.

    Raises UnreadableModel when it is none or not whole, UnsafeModel when it asks for code of other libraries.
    """
    index = read_config(folder / "model_index.json")
    _check_libraries(folder, index)
    unet = read_config(folder / "unet" / "config.json")
    text = read_config(folder / "text_encoder" / "config.json") if index.get("text_encoder") else {}
    vae = read_config(folder / "vae" / "config.json") if index.get("vae") else {}
    scheduler = folder / "scheduler" / "scheduler_config.json"
    prediction = read_config(scheduler).get("prediction_type") if scheduler.exists() else None
    pipeline = str(index.get("_class_name", ""))
    seen = {"pipeline": f"model_index.json names a {pipeline}"}
    parts = {"unet"} | ({"vae"} if vae else set())
    seen["unet"] = "unet/config.json describes a UNet"
    linear = bool(unet.get("use_linear_projection", False))
    seen["linear_projection"] = f"unet/config.json says use_linear_projection {str(linear).lower()}"
    if text:
        # SD-2's tower is OpenCLIP's, which diffusers stores in the layout of CLIP; only its width tells.
        parts.add("clip")
        seen["clip"] = "text_encoder/config.json describes a CLIP text encoder"
    if "StableDiffusionXL" in pipeline:
        parts.add("conditioner")
        seen["conditioner"] = seen["pipeline"]
    return Facts(
        "folder",
        frozenset(parts),
        context_width=_number(unet, "cross_attention_dim", "unet/config.json", seen, "context_width"),
        in_channels=_number(unet, "in_channels", "unet/config.json", seen, "in_channels"),
        text_width=_number(text, "hidden_size", "text_encoder/config.json", seen, "text_width"),
        latent_channels=_number(vae, "latent_channels", "vae/config.json", seen, "latent_channels"),
        linear_projection=linear,
        prediction_type=_folder_prediction(prediction, seen),
        pipeline=pipeline,
        seen=seen,
    )


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object of a diffusers folder. Raises UnreadableModel."""
    with opened(path) as (_, size):
        if size > _MAX_CONFIG:
            raise UnreadableModel(f"{path}: {size:,} bytes are too many for a config.")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnreadableModel(f"{path}: not proper JSON ({str(error)[:200]}).") from error
    if not isinstance(content, dict):
        raise UnreadableModel(f"{path}: not a JSON object.")
    return content


def _check_libraries(folder: Path, index: dict[str, Any]) -> None:
    for name, value in index.items():
        parts: Iterable[Any] = value if isinstance(value, list) and len(value) == 2 else (None, None)
        library, class_name = parts
        if library not in _LIBRARIES:
            wanted = ascii(f"{library}.{class_name}")[1:-1][:200]
            raise UnsafeModel(
                f"{folder / 'model_index.json'}: its part {shorten(name)} asks for {wanted}; "
                "only classes of diffusers and transformers are loaded.",
                wanted,
            )


def _number(config: dict[str, Any], key: str, where: str, seen: dict[str, str], fact: str) -> int | None:
    value = config.get(key)
    if type(value) is not int:
        return None
    seen[fact] = f"{where} says {key} {value}"
    return value


def _folder_prediction(said: Any, seen: dict[str, str]) -> str | None:
    if said not in ("epsilon", "v_prediction", "sample"):
        return None
    seen["prediction_type"] = f"scheduler/scheduler_config.json says prediction_type {said}"
    return str(said)
