"""Folders: what a diffusers or transformers folder is, and what of it is missing.

Called by `identify`. A pipeline (model_index.json) and a part of one (config.json) say themselves what they are; where
they do not, the weights in the folder are held against the same tables as a file. A config that asks for classes of
other libraries is unsafe. No tensor is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import ModelError, UnknownModel, UnreadableModel, UnsafeModel
from invokeai_daemon.models.configs import read_config
from invokeai_daemon.models.header import Header, read_header
from invokeai_daemon.models.identify.deciding import Finding, decide
from invokeai_daemon.models.identify.folder_classes import (
    STABLE_DIFFUSION,
    Component,
    Pipeline,
    base_by_config,
    class_of,
    component_of,
    denoiser_variant,
    pipeline_of,
)
from invokeai_daemon.models.identify.folder_weights import merged_header, stock_of
from invokeai_daemon.models.identify.quantised import OTHER_VERSION
from invokeai_daemon.models.identify.rooms import matches_of
from invokeai_daemon.models.identify.weights import Weights, shorten
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.models.sidecar import Sidecar

#: Where diffusers may import a pipeline's parts from; any other name in model_index.json would be imported, too.
_LIBRARIES = {None, "diffusers", "transformers", "stable_diffusion", "kolors", "deepfloyd_if", "paint_by_example"}
#: Parts whose classes have no weights, by the end of their names; and those that may be left out.
_WITHOUT_WEIGHTS = ("Scheduler", "Tokenizer", "TokenizerFast", "ImageProcessor", "FeatureExtractor", "Processor")
_OPTIONAL = {"safety_checker", "feature_extractor", "image_encoder", "watermarker"}
#: Beginnings of the names of parts that are models by themselves.
_ENCODERS = ("text_encoder", "image_encoder")
_REPAIR = (
    "Copy the missing part into the folder, or get the model again",
    "Save it again with safe_serialization=True, or drop the original single file",
)


def read_folder(folder: Path, sidecar: Sidecar | None, hint: str | None) -> Finding:
    """What a folder is. Raises UnreadableModel when it is no model or broken, UnsafeModel when it asks for code."""
    if (folder / "model_index.json").is_file():
        return _pipeline(folder, sidecar)
    lone = _file_that_is_the_model(folder)
    if lone is not None:
        path, form = lone
        return _as(form, _by_weights(folder, replace(read_header(path), path=folder), sidecar, hint))
    if (folder / "config.json").is_file():
        return _part_of_a_pipeline(folder, sidecar, hint)
    inner = _only_part(folder)
    if inner is not None:
        return read_folder(inner, sidecar, hint)
    if any((folder / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json", "spiece.model")):
        raise UnreadableModel(f"{folder}: a tokenizer alone is not a model. Drop the folder that it belongs to.")
    raise UnreadableModel(
        f"{folder}: a folder without model_index.json or config.json is not one model. Drop the files in it one by one."
    )


def _only_part(folder: Path) -> Path | None:
    """The one encoder in a folder around it and its tokenizer: InvokeAI keeps T5 as text_encoder_2 and tokenizer_2."""
    parts = [path.parent for path in sorted(folder.glob("*/config.json")) if path.parent.name.startswith(_ENCODERS)]
    return parts[0] if len(parts) == 1 else None


# Pipelines


def _pipeline(folder: Path, sidecar: Sidecar | None) -> Finding:
    index = read_config(folder / "model_index.json")
    _check_libraries(folder, index)
    name = class_of(index)
    evidence = [f"model_index.json names a {shorten(name) or 'class without a name'}"]
    own = pipeline_of(name)
    if own is not None:
        identity, why = _of_its_own(folder, index, own)
    elif (folder / "unet" / "config.json").is_file() or name in STABLE_DIFFUSION:
        identity, why = _stable_diffusion(folder, index, name)
    else:
        what = f"model_index.json names the pipeline {shorten(name) or '?'}, of no family that is known here"
        raise UnknownModel(f"{folder}: {what}. If you know what it is, say so in a sidecar beside the folder.")
    identity = replace(identity, evidence=(*evidence, *identity.evidence))
    identity = _with_the_sidecar(identity, sidecar)
    missing = list(_what_is_missing(folder, index))
    if missing and not why:
        why = f"{missing[0]}"
    return Finding(identity, (), f"{folder}: {why.rstrip('.')}." if why else "")


def _of_its_own(folder: Path, index: Mapping[str, Any], pipeline: Pipeline) -> tuple[Identity, str]:
    """A pipeline whose class tells the base."""
    config = _config_of(folder, "transformer") or _config_of(folder, "unet") or {}
    said = denoiser_variant(pipeline.base, config, index)
    variant = pipeline.variant or (said[0] if said else None)
    evidence = [said[1]] if said and said[0] == variant else []
    form, quantised = _quantised(config)
    identity = Identity("main", pipeline.base, form, variant, "flow", tuple(evidence))
    if pipeline.usable:
        return identity, quantised
    why = f"it is {pipeline.called}, which can be neither converted nor rendered yet; it is kept under its name"
    if pipeline.base in ("flux", "sd-3"):
        why = f"model_index.json names the pipeline {index.get('_class_name')}, which is not supported yet"
    return identity, why


def _quantised(config: Mapping[str, Any]) -> tuple[str, str]:
    """The format of a denoiser, and why it cannot be used when its weights are quantised."""
    said = config.get("quantization_config")
    if not isinstance(said, dict):
        return "diffusers", ""
    method = ascii(str(said.get("quant_method") or "a way that it does not name"))[1:-1][:80]
    why = f"transformer/config.json says that its weights are quantised by {method}, which cannot be loaded yet"
    return ("sdnq_quantized" if method == "sdnq" else "diffusers"), f"{why}. {OTHER_VERSION}"


#: Channels that a UNet takes -> variant.
_VARIANTS = {4: "normal", 9: "inpaint", 5: "depth", 8: "edit"}


def _stable_diffusion(folder: Path, index: Mapping[str, Any], name: str) -> tuple[Identity, str]:
    """A pipeline whose UNet tells the base."""
    unet = _config_of(folder, "unet")
    if unet is None:
        base = "sdxl" if name.startswith("StableDiffusionXL") else "unknown"
        return Identity("main", base, "diffusers"), f"unet/config.json is missing. {_REPAIR[0]}"
    text = (_config_of(folder, "text_encoder") if index.get("text_encoder") else None) or {}
    if index.get("vae"):
        _config_of(folder, "vae")
    base, evidence = _base_of_unet(folder, unet, text)
    channels = unet.get("in_channels")
    variant = _VARIANTS.get(channels) if isinstance(channels, int) else None
    if channels is not None:
        evidence.append(f"unet/config.json says in_channels {channels}")
    prediction = (_config_of(folder, "scheduler", "scheduler_config.json") or {}).get("prediction_type")
    is_said = prediction in ("epsilon", "v_prediction", "sample")
    if is_said:
        evidence.append(f"scheduler/scheduler_config.json says prediction_type {prediction}")
    predicts = str(prediction) if is_said else "epsilon"
    assumed = () if is_said else ("prediction_type",)
    identity = Identity("main", base, "diffusers", variant, predicts, tuple(evidence), assumed)
    return identity, _odd(name, unet, variant)


def _base_of_unet(folder: Path, unet: Mapping[str, Any], text: Mapping[str, Any]) -> tuple[str, list[str]]:
    width, linear, sizes = (
        unet.get(key) for key in ("cross_attention_dim", "use_linear_projection", "addition_embed_type")
    )
    evidence = [f"unet/config.json says cross_attention_dim {width}"]
    if sizes == "text_time":
        evidence.append("unet/config.json says addition_embed_type text_time")
        base = {2048: "sdxl", 1280: "sdxl-refiner"}.get(width) if isinstance(width, int) else None
    elif linear:
        evidence.append("unet/config.json says use_linear_projection true")
        base = "sd-2" if width == 1024 else None
    else:
        own = text.get("hidden_size")
        base = "sd-1" if own == width or (own is None and width == 768) else "sd-2" if width == 1024 else None
        evidence += [f"text_encoder/config.json says hidden_size {own}"] if own == width else []
    if base is None:
        why = evidence[0]
        raise UnknownModel(f"{folder}: a diffusers folder of no known family: {why}.", [("sd-1 main", why)])
    return base, evidence


def _odd(name: str, unet: Mapping[str, Any], variant: str | None) -> str:
    """Why a folder with a UNet is no ordinary model; empty when it is one."""
    if name not in STABLE_DIFFUSION:
        return (
            f"model_index.json names the pipeline {shorten(name)}, which is not supported yet. If its parts are those "
            f"of an ordinary model, change _class_name to StableDiffusionPipeline"
        )
    if unet.get("time_cond_proj_dim"):
        return "its UNet takes the guidance as an input (time_cond_proj_dim), which is not supported yet"
    if variant is None:
        return f"unet/config.json says in_channels {unet.get('in_channels')}; only 4, 5, 8 or 9 are known"
    return ""


def _what_is_missing(folder: Path, index: Mapping[str, Any]) -> Iterator[str]:
    """The parts that model_index.json names and that are not whole, each as a clause with what to do."""
    for name in sorted(index):
        part = index[name]
        if name.startswith("_") or not (isinstance(part, list) and len(part) == 2 and part[1]):
            continue
        if not (folder / name).is_dir():
            if name not in _OPTIONAL:
                yield f"its part {name} is missing. {_REPAIR[0]}"
        elif not str(part[1]).endswith(_WITHOUT_WEIGHTS):
            yield from _what_a_part_lacks(folder / name)


def _what_a_part_lacks(part: Path) -> Iterator[str]:
    if not (part / "config.json").is_file():
        yield f"{part.name}/config.json is missing. {_REPAIR[0]}"
    lacks = stock_of(part).lacks()
    if lacks:
        yield f"its part {part.name}: {lacks}. {_REPAIR[1 if 'pickles' in lacks else 0]}"


def _config_of(folder: Path, part: str, name: str = "config.json") -> dict[str, Any] | None:
    path = folder / part / name
    return read_config(path) if path.is_file() else None


# Parts of pipelines, and files in folders of their own


def _part_of_a_pipeline(folder: Path, sidecar: Sidecar | None, hint: str | None) -> Finding:
    config = read_config(folder / "config.json")
    named = component_of(config)
    stock = stock_of(folder)
    lacks = stock.lacks()
    if stock.missing or not stock.files or stock.kind == "other":
        identity = _said_by_config(named[1], config) if named else _seen_in(folder, stock.files, sidecar, hint)
        return Finding(_with_the_sidecar(identity, sidecar), (), f"{folder}: {lacks}. {_REPAIR[0]}.")
    header = merged_header(folder, stock.files)
    try:
        found = _by_weights(folder, header, sidecar, hint or (named[1].type if named else None))
    except ModelError:
        if named is None:
            raise
        found = None
    if named is None:
        assert found is not None
        return _as("diffusers", found)
    return _joined(folder, named, config, found, sidecar)


def _seen_in(folder: Path, files: Sequence[Path], sidecar: Sidecar | None, hint: str | None) -> Identity:
    """What the shards that are there show; nothing, perhaps."""
    try:
        return _as("diffusers", _by_weights(folder, merged_header(folder, files), sidecar, hint)).identity
    except ModelError:
        return Identity("unknown", "unknown", "diffusers")


def _joined(
    folder: Path,
    named: tuple[str, Component],
    config: Mapping[str, Any],
    found: Finding | None,
    sidecar: Sidecar | None,
) -> Finding:
    """What the config says, and what the weights add to it."""
    name, component = named
    identity = _said_by_config(component, config)
    unusable, nearest = "", found.nearest if found else ()
    if found is not None and found.identity.type == identity.type:
        seen = found.identity
        unusable = found.unusable
        if identity.base == "unknown":
            identity = replace(identity, base=seen.base, assumed=seen.assumed)
        else:
            unusable = "" if "its base cannot be told" in unusable else unusable
        identity = replace(
            identity,
            variant=identity.variant or seen.variant,
            format=seen.format if "quantized" in seen.format else identity.format,
            evidence=(*identity.evidence, *seen.evidence),
            needs=seen.needs,
        )
    identity = replace(identity, evidence=(f"config.json names a {shorten(name)}", *identity.evidence))
    identity = _with_the_sidecar(identity, sidecar)
    if identity.base == "unknown" and not unusable:
        unusable = f'{folder}: its base cannot be told. Say it in a sidecar beside the folder: base = "sd-1"'
    return Finding(identity, nearest, unusable)


def _said_by_config(component: Component, config: Mapping[str, Any]) -> Identity:
    base, variant = base_by_config(component.type, config), component.variant(config)
    evidence = [words[1] for words in (base, variant) if words]
    return Identity(
        component.type,
        base[0] if base else component.base,
        component.format,
        variant[0] if variant else None,
        evidence=tuple(evidence),
    )


#: File that makes a folder a model by itself -> the format of such folders.
_FILES = {
    "pytorch_lora_weights.safetensors": "diffusers",
    "pytorch_lora_weights.bin": "diffusers",
    "adapter_model.safetensors": "diffusers",
    "adapter_model.bin": "diffusers",
    "learned_embeds.safetensors": "embedding_folder",
    "learned_embeds.bin": "embedding_folder",
    "ip_adapter.safetensors": "invokeai",
    "ip_adapter.bin": "invokeai",
}


def _file_that_is_the_model(folder: Path) -> tuple[Path, str] | None:
    return next(((folder / name, form) for name, form in _FILES.items() if (folder / name).is_file()), None)


def _by_weights(folder: Path, header: Header, sidecar: Sidecar | None, hint: str | None) -> Finding:
    weights = Weights(header)
    return decide(str(folder), weights, matches_of(weights), sidecar, hint)


def _as(form: str, finding: Finding) -> Finding:
    return replace(finding, identity=replace(finding.identity, format=form))


def _with_the_sidecar(identity: Identity, sidecar: Sidecar | None) -> Identity:
    """The sidecar wins; where it says other than the configs, both are told."""
    if sidecar is None:
        return identity
    evidence, assumed = list(identity.evidence), list(identity.assumed)
    words = {}
    for field in ("type", "base", "variant", "prediction_type"):
        said, found = getattr(sidecar, field), getattr(identity, field)
        if said is None or (field == "prediction_type" and found is None):
            continue
        words[field] = said
        if field in assumed:
            assumed.remove(field)
        if said != found:
            contrary = (
                f", but the folder says {found}"
                if found not in (None, "unknown") and field not in identity.assumed
                else ""
            )
            evidence.append(f"a file beside it says {field} {said}{contrary}")
    return replace(identity, **words, evidence=tuple(evidence), assumed=tuple(assumed))


# Safety


def _check_libraries(folder: Path, index: Mapping[str, Any]) -> None:
    for name, value in index.items():
        parts: Sequence[Any] | Iterable[Any] = value if isinstance(value, list) and len(value) == 2 else (None, None)
        library, class_name = parts
        if not isinstance(library, str | None) or library not in _LIBRARIES:
            wanted = ascii(f"{library}.{class_name}")[1:-1][:200]
            raise UnsafeModel(
                f"{folder / 'model_index.json'}: its part {shorten(name)} asks for {wanted}; "
                "only classes of diffusers and transformers are loaded.",
                wanted,
            )
