"""Pipelines: what a diffusers folder with a model_index.json is, and which of its parts is missing.

Called by `folders`. The class of the pipeline tells the family; that of Stable Diffusion leaves base and variant to the
config of its UNet. A model_index.json that asks for classes of other libraries is unsafe. No weights are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import UnknownModel, UnsafeModel
from invokeai_daemon.models.configs import has_config, read_config
from invokeai_daemon.models.identify.deciding import Finding
from invokeai_daemon.models.identify.folder_classes import (
    STABLE_DIFFUSION,
    Configs,
    Pipeline,
    class_of,
    denoiser_variant,
    pipeline_of,
)
from invokeai_daemon.models.identify.folder_weights import stock_of
from invokeai_daemon.models.identify.quantised import OTHER_VERSION
from invokeai_daemon.models.identify.weights import shorten
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.models.sidecar import Sidecar

#: Where diffusers may import a pipeline's parts from; any other name in model_index.json would be imported, too.
_LIBRARIES = {None, "diffusers", "transformers", "stable_diffusion", "kolors", "deepfloyd_if", "paint_by_example"}
#: Parts whose classes have no weights, by the end of their names; and those that may be left out.
_WITHOUT_WEIGHTS = ("Scheduler", "Tokenizer", "TokenizerFast", "ImageProcessor", "FeatureExtractor", "Processor")
_OPTIONAL = {"safety_checker", "feature_extractor", "image_encoder", "watermarker"}
#: What a scheduler's config may say that is predicted.
_PREDICTIONS = ("epsilon", "v_prediction", "sample")
#: What to do about a part that is missing, and about one whose weights are pickles.
REPAIR = (
    "Copy the missing part into the folder, or get the model again",
    "Save it again with safe_serialization=True, or drop the original single file",
)


def read_pipeline(folder: Path, sidecar: Sidecar | None) -> Finding:
    """What a folder with a model_index.json is. Raises like `read_folder`."""
    index = read_config(folder / "model_index.json")
    _check_libraries(folder, index)
    name = class_of(index)
    evidence = [f"model_index.json names a {shorten(name) or 'class without a name'}"]
    own = pipeline_of(name)
    if own is not None:
        identity, why = _of_its_own(folder, index, own)
    elif has_config(folder / "unet" / "config.json") or name in STABLE_DIFFUSION:
        identity, why = _stable_diffusion(folder, index, name)
    else:
        identity, why = _of_no_family(folder, name, sidecar)
    identity = replace(identity, evidence=(*evidence, *identity.evidence))
    identity = with_the_sidecar(identity, sidecar)
    why = why or next(_what_is_missing(folder, index), "")
    return Finding(identity, (), f"{folder}: {why.rstrip('.')}." if why else "")


def _of_its_own(folder: Path, index: Mapping[str, Any], pipeline: Pipeline) -> tuple[Identity, str]:
    """A pipeline whose class tells the base."""
    config = _config_of(folder, "transformer") or _config_of(folder, "unet") or {}
    scheduler = _config_of(folder, "scheduler", "scheduler_config.json") or {}
    said = denoiser_variant(pipeline.base, Configs(config, index, scheduler))
    variant = pipeline.variant or (said[0] if said else None)
    evidence = [said[1]] if said and said[0] == variant else []
    form, quantised = _quantised(folder, config)
    identity = Identity("main", pipeline.base, form, variant, _predicts(scheduler, pipeline), tuple(evidence))
    if pipeline.usable:
        return identity, quantised
    why = f"it is {pipeline.called}; nothing here converts or renders such models; it is kept under its name"
    if pipeline.base in ("flux", "sd-3"):
        why = f"model_index.json names the pipeline {index.get('_class_name')}, which is not supported yet"
    return identity, why


def _of_no_family(folder: Path, name: str, sidecar: Sidecar | None) -> tuple[Identity, str]:
    """A pipeline that only its sidecar knows, or a stranger. Raises UnknownModel."""
    what = f"model_index.json names the pipeline {shorten(name) or '?'}, of no family that is known here"
    if name.startswith("Onnx"):
        return Identity("onnx", "sd-1", "onnx"), "its weights are for ONNX; get the version for diffusers"
    if sidecar is None or sidecar.type is None:
        raise UnknownModel(f"{folder}: {what}. If you know what it is, say so in a sidecar beside the folder.")
    return Identity("unknown", "unknown", "diffusers"), what


def _predicts(scheduler: Mapping[str, Any], pipeline: Pipeline) -> str | None:
    """What a pipeline of its own predicts, as its scheduler says."""
    if pipeline.usable or "FlowMatch" in class_of(scheduler):
        return "flow"
    said = str(scheduler.get("prediction_type"))
    return {"flow_prediction": "flow"}.get(said) or (said if said in _PREDICTIONS else None)


def _quantised(folder: Path, config: Mapping[str, Any]) -> tuple[str, str]:
    """The format of a denoiser, and why it cannot be used when its weights are quantised."""
    said, where = config.get("quantization_config"), "config.json"
    if not isinstance(said, dict):
        said, where = _config_of(folder, "transformer", "quantization_config.json"), "quantization_config.json"
    if said is None:
        return "diffusers", ""
    method = ascii(str(said.get("quant_method") or "a way that it does not name"))[1:-1][:80]
    why = f"transformer/{where} says that its weights are quantised by {method}, which cannot be loaded yet"
    return ("sdnq_quantized" if method == "sdnq" else "diffusers"), f"{why}. {OTHER_VERSION}"


#: Channels that a UNet takes -> variant.
_VARIANTS = {4: "normal", 9: "inpaint", 5: "depth", 8: "edit"}


def _stable_diffusion(folder: Path, index: Mapping[str, Any], name: str) -> tuple[Identity, str]:
    """A pipeline whose UNet tells the base."""
    unet = _config_of(folder, "unet")
    if unet is None:
        base = "sdxl" if name.startswith("StableDiffusionXL") else "unknown"
        return Identity("main", base, "diffusers"), f"unet/config.json is missing. {REPAIR[0]}"
    text = (_config_of(folder, "text_encoder") if index.get("text_encoder") else None) or {}
    if index.get("vae"):
        _config_of(folder, "vae")
    base, evidence = _base_of_unet(folder, unet, text)
    channels = unet.get("in_channels")
    variant = _VARIANTS.get(channels) if isinstance(channels, int) else None
    if channels is not None:
        evidence.append(f"unet/config.json says in_channels {channels}")
    prediction = (_config_of(folder, "scheduler", "scheduler_config.json") or {}).get("prediction_type")
    is_said = prediction in _PREDICTIONS
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
        is_own = own == width or (own is None and width == 768)
        base = None if width is None else "sd-1" if is_own else "sd-2" if width == 1024 else None
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
                yield f"its part {name} is missing. {REPAIR[0]}"
        elif not str(part[1]).endswith(_WITHOUT_WEIGHTS):
            yield from _what_a_part_lacks(folder / name)


def _what_a_part_lacks(part: Path) -> Iterator[str]:
    if not has_config(part / "config.json"):
        yield f"{part.name}/config.json is missing. {REPAIR[0]}"
    lacks = stock_of(part).lacks()
    if lacks:
        yield f"its part {part.name}: {lacks}. {REPAIR[1 if 'pickles' in lacks else 0]}"


def _config_of(folder: Path, part: str, name: str = "config.json") -> dict[str, Any] | None:
    path = folder / part / name
    return read_config(path) if has_config(path) else None


# Sidecars and safety


def with_the_sidecar(identity: Identity, sidecar: Sidecar | None) -> Identity:
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


def _check_libraries(folder: Path, index: Mapping[str, Any]) -> None:
    for name, value in index.items():
        parts: Any = value if isinstance(value, list) and len(value) == 2 else (None, None)
        library, class_name = parts
        if not isinstance(library, str | None) or library not in _LIBRARIES:
            wanted = ascii(f"{library}.{class_name}")[1:-1][:200]
            raise UnsafeModel(
                f"{folder / 'model_index.json'}: its part {shorten(name)} asks for {wanted}; "
                "only classes of diffusers and transformers are loaded.",
                wanted,
            )
