"""Identify: say what a model file or folder is, with the evidence, or say what came close and why it is not that.

Called by the importer and by `models identify`. Facts first (`facts`), then the table (`families`). A sidecar decides
what facts cannot; it does not overrule what a conversion depends on. Never imports torch, never reads a tensor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from invokeai_daemon.errors import AmbiguousModel, ModelError, UnknownModel, UnreadableModel
from invokeai_daemon.models import facts as facts_of
from invokeai_daemon.models.facts import Facts
from invokeai_daemon.models.families import FAMILIES, Family, Rule
from invokeai_daemon.models.header import Header, read_header
from invokeai_daemon.models.identity import Identity, Verdict
from invokeai_daemon.models.sidecar import Sidecar

NOTHING = Identity("unknown", "unknown", "unknown")

#: The pipelines that a diffusers folder may name and still be an ordinary model.
_PIPELINES = {"StableDiffusionPipeline": {4}, "StableDiffusionInpaintPipeline": {9, 4}}


class UnsupportedModel(UnknownModel):
    """The family is recognised, but this version cannot import it yet."""

    def __init__(self, message: str, identity: Identity, nearest: Iterable[tuple[str, str]]) -> None:
        self.identity = identity
        super().__init__(message, nearest)


def identify(model: Header | Path, sidecar: Sidecar | None = None, hint: str | None = None) -> Identity:
    """What a model is. `hint` is a type ("main", "lora", …) that the folder it lies in suggests; it only settles ties.

    Raises UnsupportedModel (with `identity`) for a family that is recognised but cannot be imported yet, UnknownModel
    (with `nearest`) for what is of no known family, AmbiguousModel for what fits several, UnreadableModel and
    UnsafeModel like `read_header`.
    """
    where = str(model.path if isinstance(model, Header) else model)
    facts = _facts(model)
    family = _family(where, facts, sidecar, hint)
    identity = recognised(family, facts, sidecar)
    if not family.supported:
        reason = f"it is {family.name}; this kind is not supported yet"
        evidence = "; ".join(identity.evidence)
        raise UnsupportedModel(f"{where}: {reason} ({evidence}).", identity, [(family.title, reason)])
    if facts.layout == "folder":
        _check_folder(where, facts, identity)
    return identity


def judge(model: Header | Path, sidecar: Sidecar | None = None, hint: str | None = None) -> Verdict:
    """How an intake of this file would end, as a value: every ModelError becomes a verdict with its reason.

    A model of a family that is recognised but not supported has its identity, with the state "unknown".
    """
    try:
        return Verdict("ok", identify(model, sidecar, hint))
    except UnsupportedModel as error:
        return Verdict("unknown", error.identity, str(error), error.nearest)
    except UnknownModel as error:
        return Verdict("unknown", NOTHING, str(error), error.nearest)
    except AmbiguousModel as error:
        return Verdict("unknown", NOTHING, str(error), tuple((name, "it fits as well") for name in error.candidates))
    except ModelError as error:
        return Verdict("rejected", NOTHING, str(error))


def _facts(model: Header | Path) -> Facts:
    if isinstance(model, Header):
        return facts_of.of_header(model)
    if not model.is_dir():
        return facts_of.of_header(read_header(model))
    if not (model / "model_index.json").is_file():
        raise UnreadableModel(f"{model}: a folder without model_index.json is not a diffusers model.")
    return facts_of.of_folder(model)


def _family(where: str, facts: Facts, sidecar: Sidecar | None, hint: str | None) -> Family:
    fitting = [family for family in FAMILIES if all(rule.holds(facts) for rule in _rules(family))]
    if sidecar is not None and (sidecar.type or sidecar.base):
        return _as_the_sidecar_says(where, facts, sidecar, fitting)
    if len(fitting) > 1 and hint:
        fitting = [family for family in fitting if family.type == hint] or fitting
    if len(fitting) > 1:
        names = [family.title for family in fitting]
        raise AmbiguousModel(
            f"{where}: it may be {' or '.join(names)}. Say which in a sidecar: a file of the same name ending in "
            f'.toml with, for instance, type = "{fitting[0].type}".',
            names,
        )
    if not fitting:
        raise _unknown(where, facts)
    return fitting[0]


def _as_the_sidecar_says(where: str, facts: Facts, sidecar: Sidecar, fitting: list[Family]) -> Family:
    """The family that the sidecar names, unless a fact on which the conversion depends speaks against it."""
    named = [family for family in FAMILIES if _says(sidecar, family)]
    for family in named:
        if family in fitting or all(rule.holds(facts) or not rule.firm for rule in _rules(family)):
            return family
    wanted = " ".join(word for word in (sidecar.base, sidecar.type) if word)
    if not named:
        raise UnknownModel(f"{where}: its sidecar says {wanted}; this kind is not supported yet.")
    against = [(family.title, _against(family, facts)) for family in named]
    raise UnknownModel(f"{where}: its sidecar says {wanted}, but {against[0][1]}. Correct the sidecar.", against)


def _says(sidecar: Sidecar, family: Family) -> bool:
    base_fits = sidecar.base in (None, family.base) or sidecar.base in family.bases.values()
    return sidecar.type in (None, family.type) and base_fits


def _unknown(where: str, facts: Facts) -> UnknownModel:
    near = [family for family in FAMILIES if all(rule.holds(facts) for rule in family.marks)]
    near.sort(key=lambda family: sum(rule.holds(facts) for rule in family.rules) / len(family.rules), reverse=True)
    nearest = [(family.title, _against(family, facts)) for family in near]
    seen = "; ".join(facts.seen.values()) or f"{facts.tensors} tensors, none with a known name"
    if nearest:
        closest = "; ".join(f"not {title}, because {why}" for title, why in nearest[:3])
        return UnknownModel(f"{where}: a model of no known family: {closest}.", nearest)
    return UnknownModel(f"{where}: a weight file of no known family. What was seen: {seen}.")


def _against(family: Family, facts: Facts) -> str:
    return next((rule.says(facts) for rule in _rules(family) if not rule.holds(facts)), "")


def _rules(family: Family) -> tuple[Rule, ...]:
    return (*family.marks, *family.rules)


def recognised(family: Family, facts: Facts, sidecar: Sidecar | None) -> Identity:
    """The identity of a model of this family: variant and prediction from the facts, the sidecar, or the default."""
    evidence = [rule.says(facts) for rule in _rules(family) if rule.evidence]
    assumed: list[str] = []
    prediction = facts.prediction_type
    if prediction:
        evidence.append(facts.seen["prediction_type"])
    if sidecar is not None and sidecar.prediction_type:
        prediction = sidecar.prediction_type
        evidence.append(f"a file beside it says prediction_type {prediction}")
    if prediction is None and family.prediction_type:
        prediction = family.prediction_type
        assumed.append("prediction_type")
    identity = Identity(
        family.type,
        _base(family, facts, sidecar),
        "diffusers" if facts.layout == "folder" else family.format,
        _variant(family, facts),
        prediction if family.prediction_type else None,
        tuple(dict.fromkeys(evidence)),
        tuple(assumed),
    )
    if sidecar is not None and sidecar.variant and sidecar.variant != identity.variant:
        note = f"its sidecar says variant {sidecar.variant}, the file is {identity.variant}"
        identity = replace(identity, evidence=(*identity.evidence, note))
    return identity


def _base(family: Family, facts: Facts, sidecar: Sidecar | None) -> str:
    if not family.bases:
        return family.base
    if sidecar is not None and sidecar.base:
        return sidecar.base
    width = facts.vector_width if facts.context_width is None else facts.context_width
    return family.bases.get(width or 0, family.base)


def _variant(family: Family, facts: Facts) -> str | None:
    return family.variants.get(facts.in_channels or 0)


def _check_folder(where: str, facts: Facts, identity: Identity) -> None:
    """A supported family in a folder is rendered by its usual pipeline and has its weights as safetensors."""
    if facts.in_channels not in _PIPELINES.get(facts.pipeline, ()):
        why = f"model_index.json names the pipeline {facts.pipeline or '?'}"
        supported = " and ".join(_PIPELINES)
        raise UnsupportedModel(f"{where}: {why}; only {supported} are supported yet.", identity, [("sd-1 main", why)])
    for part in ("unet", "vae", "text_encoder"):
        folder = Path(where) / part
        if not any(folder.glob("*.safetensors")):
            what = "its weights are pickles" if any(folder.glob("*.bin")) else "it has no weights"
            raise UnreadableModel(
                f"{folder}: {what}; a folder needs *.safetensors. "
                "Save the pipeline again with safe_serialization=True, or drop the original single file."
            )
