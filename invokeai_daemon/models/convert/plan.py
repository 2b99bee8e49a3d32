"""Plan a conversion: from headers and a family's table, which bytes of which file become which tensor.

Called by `convert_model`. Planning reads headers and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from invokeai_daemon.errors import IncompleteModel, ModelError
from invokeai_daemon.models.convert.component import Planned, examine, some, tensors_text
from invokeai_daemon.models.convert.conversion import Conversion, WeightFile
from invokeai_daemon.models.convert.families import family_of
from invokeai_daemon.models.convert.family import ABSENT, Family, Loader, diffusers_version
from invokeai_daemon.models.convert.options import ConvertOptions
from invokeai_daemon.models.convert.original import Original, contradictions, read_original, settled, told
from invokeai_daemon.models.header import Header
from invokeai_daemon.models.identity import Identity

#: What the original code stores, and neither world reads when it renders: not worth a note.
NEVER_READ = ("position_ids", "logit_scale")


def plan_conversion(header: Header, identity: Identity, options: ConvertOptions | None = None) -> Conversion:
    """How this file becomes a diffusers folder.

    Raises IncompleteModel, naming all that is missing or misshapen, UnreadableModel for a companion that cannot be
    read, and ModelError when there is no converter.
    """
    options = options or ConvertOptions()
    family = family_of(identity)
    if family is None:
        raise ModelError(f"{header.path}: there is no conversion of a {identity.base} {identity.type} model.")
    if family.pipelines and (identity.variant or "normal") not in family.pipelines:
        raise ModelError(f"{header.path}: there is no conversion of the variant {identity.variant} of {identity.base}.")
    original = read_original(options.config) if options.config else Original()
    identity, notes = settled(identity, original)
    options = replace(options, use_ema=options.use_ema or bool(original.use_ema))
    parts = [examine(component, header, options) for component in family.of_variant(identity.variant)]
    _require_all(header, parts)
    found = [part for part in parts if part.is_there]
    for part in found:
        notes = (*notes, *part.notes, *(contradictions(part.part.config(), original) if part.part else ()))
    return Conversion(
        source=header.path,
        identity=replace(identity, format="diffusers"),
        weights=tuple(sorted((file for part in found for file in part.weights), key=_place)),
        configs=_configs(family, identity, header, parts, original),
        notes=(*notes, *_left_out(family, header, found)),
        copies=tuple(copy for part in found for copy in part.copies),
        writers=family.writers,
        options=options,
    )


def _place(file: WeightFile) -> int:
    """Files are written in the order in which the source is read."""
    return min((run.offset for run in file.runs), default=0)


def _require_all(header: Header, parts: Sequence[Planned]) -> None:
    problems = [problem for part in parts for problem in part.problems]
    if not problems:
        return
    missing = [part.component.name for part in parts if part.is_missing]
    advice = "Get the model again."
    if len(missing) == len(problems):
        own = f" (a VAE may lie beside it as {header.path.stem}.vae.safetensors)" if "vae" in missing else ""
        advice = f"Get the whole model, or the missing part of its own{own}."
    raise IncompleteModel(
        f"{header.path}: recognised but incomplete: {'; '.join(problems)}. {advice}",
        missing if len(missing) == len(problems) else (),
    )


def _configs(
    family: Family, identity: Identity, header: Header, parts: Sequence[Planned], original: Original
) -> dict[str, Mapping[str, Any]]:
    configs: dict[str, Mapping[str, Any]] = {}
    loaders = {part.component.name: part.component.loader if part.is_there else ABSENT for part in parts}
    if family.scheduler is not None:
        scheduler = family.scheduler(identity, header)
        loaders["scheduler"] = ("diffusers", scheduler["_class_name"])
        configs["scheduler/scheduler_config.json"] = _stamped(scheduler)
    if family.pipelines:
        configs["model_index.json"] = _model_index(family, identity, loaders)
    for part in parts:
        if part.part is not None:
            config = {**part.part.config(), **part.component.settings(identity, header)}
            config |= told(config, original)
            path = f"{part.component.folder}config.json"
            configs[path] = _stamped(config) if "_class_name" in config else config
    return configs


def _model_index(family: Family, identity: Identity, loaders: Mapping[str, Loader]) -> dict[str, Any]:
    variant = identity.variant or "normal"
    return {
        "_class_name": family.pipelines[variant],
        "_diffusers_version": diffusers_version(),
        **{name: list(loader) for name, loader in sorted({**family.others, **loaders}.items())},
        **family.words.get("", {}),
        **family.words.get(variant, {}),
    }


def _stamped(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"_class_name": config["_class_name"], "_diffusers_version": diffusers_version(), **config}


def _left_out(family: Family, header: Header, parts: Sequence[Planned]) -> Iterator[str]:
    used = {name for part in parts for name in part.used}
    left = [name for name in header.tensors if name not in used]
    for prefix, what in family.unused.items():
        names = [name for name in left if name.startswith(prefix)]
        if names and what:
            yield f"{tensors_text(names)} of {what} ({prefix}…) left out"
    known = (*family.unused, *(stem for part in parts for stem in part.replaced))
    strange = [
        name
        for name in left
        if any(name.startswith(part.prefix) for part in parts if part.prefix is not None)
        and not name.startswith(known)
        and not name.endswith(NEVER_READ)
    ]
    if strange:
        yield f"{tensors_text(strange)} without a place in a {family.base} {_kind(family)} left out: {some(strange)}"


def _kind(family: Family) -> str:
    return "model" if family.type == "main" else family.type
