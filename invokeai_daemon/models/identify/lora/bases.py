"""Bases: from what a LoRA's layers allow to the one base it is for, or to a sentence that says why it stays open.

The shapes decide; where they leave several bases, what the trainer wrote into the metadata does; then, for models that
were made from another one and share its layers, the documented default. What contradicts the shapes is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from invokeai_daemon.models.identify.lora.facts import LoraFacts, measured
from invokeai_daemon.models.identify.lora.voting import ARCHITECTURES
from invokeai_daemon.models.identify.weights import shorten

#: Metadata in which trainers say what they trained for, the most telling first.
_SAYING = ("modelspec.architecture", "ss_base_model_version", "base_model", "model_type")
#: … and the file that they started from, whose name only suggests it.
_SUGGESTING = ("ss_sd_model_name", "ss_base_model", "modelspec.title")

#: Words of these texts -> base; the first that is found is meant.
_WORDS = (
    (r"kolors", "kolors"),
    (r"refiner", "sdxl-refiner"),
    (r"stable-diffusion-xl|sd_?xl|sdxl|illustrious|pony|noobai", "sdxl"),
    (r"stable-diffusion-3|sd_?3|sd3", "sd-3"),
    (r"stable-diffusion-v2|sd_?v?2|v2-1|stable-diffusion-2", "sd-2"),
    (r"stable-diffusion-v1|sd_?v?1|sd15|v1-5|stable-diffusion-1", "sd-1"),
    (r"flux[-_. ]?2(?!\d)|klein", "flux2"),
    (r"longcat", "longcat-image"),
    (r"(?<![a-z])ovis(?![a-z])", "ovis-image"),
    (r"chroma", "chroma"),
    (r"flux", "flux"),
    (r"z[-_]?image", "z-image"),
    (r"qwen", "qwen-image"),
    (r"(?<![a-z])wan(?![a-z])", "wan"),
    (r"hunyuan[-_ ]?video", "hunyuan-video"),
    (r"hunyuan[-_ ]?image", "hunyuan-image"),
    (r"lumina", "lumina2"),
    (r"(?<![a-z])anima(?![a-z])", "anima"),
    (r"cosmos", "cosmos"),
    (r"krea[-_ ]?2", "krea-2"),
    (r"cascade", "stable-cascade"),
    (r"hidream", "hidream"),
    (r"pixart", "pixart"),
    (r"auraflow", "auraflow"),
    (r"cogview", "cogview4"),
    (r"ltx", "ltx-video"),
)
_PATTERNS = tuple((re.compile(pattern), base) for pattern, base in _WORDS)

#: A base -> those that share its layers. A LoRA that fits all of them is most likely for the first.
MADE_FROM: Mapping[str, frozenset[str]] = {
    "flux": frozenset({"chroma", "hunyuan-video"}),
    "anima": frozenset({"cosmos"}),
    # Hardly anybody trains only the text encoders of the others.
    "sdxl": frozenset({"sd-3", "hidream", "sdxl-refiner"}),
}

#: A base -> those with exactly its layers, which nothing but metadata can tell.
TWINS: Mapping[str, frozenset[str]] = {
    "sdxl": frozenset({"kolors"}),
    "flux": frozenset({"longcat-image", "ovis-image"}),
}


class Base(NamedTuple):
    """The base of a LoRA."""

    #: None where it stays open.
    word: str | None
    #: What decided.
    says: str = ""
    assumed: bool = False
    #: The bases that are left, where the shapes leave it open.
    candidates: tuple[str, ...] = ()


def base_of(facts: LoraFacts, metadata: Mapping[str, str], name: str = "") -> Base:
    """The base that a LoRA is for; `name` is that of its file."""
    twins = {twin for own in facts.bases for twin in TWINS.get(own, ())}
    told = next((said for said in said_bases(metadata) if said.base in twins | set(facts.bases)), None)
    if told is not None and told.base in twins:
        return Base(told.base, told.says, told.suggested)
    if len(facts.bases) == 1:
        return Base(facts.bases[0], _why(facts), assumed=facts.odd is not None)
    bases = facts.bases or tuple(dict.fromkeys(architecture.base for architecture in facts.namesakes))
    said = next((said for said in said_bases(metadata) if said.base in bases or not bases), None)
    if said is not None:
        return Base(said.base, said.says, said.suggested or not facts.bases)
    if metadata.get("ss_v2") == "False" and set(bases) == {"sd-1", "sd-2"}:
        return Base("sd-1", "its metadata ss_v2 says False")
    named = _named_base(name)
    if named in bases and len(bases) > 1:
        return Base(named, f'its name suggests {named} ("{shorten(name)}")', True, bases)
    likely = _likely(bases)
    if likely and facts.bases:
        return Base(likely, f"most with such layers are for {_title(likely)}", True, bases)
    if likely:
        return Base(likely, f"its layers have the names of those of {_title(likely)}, in other sizes", True, bases)
    return Base(None, _open(facts), candidates=bases)


def _likely(bases: tuple[str, ...]) -> str | None:
    """Of bases with the same layers the one that the others were made from."""
    if len(bases) == 1:
        return bases[0]
    return next((base for base, others in MADE_FROM.items() if set(bases) - others == {base}), None)


def contradiction(facts: LoraFacts, metadata: Mapping[str, str]) -> str:
    """What the metadata say against the shapes."""
    said = [said for said in said_bases(metadata) if not said.suggested]
    known = {base for own in facts.bases for base in (own, *TWINS.get(own, ()))}
    if not said or not known or any(each.base in known for each in said):
        return ""
    return f"{said[0].says}, but its layers are those of {' or '.join(_titles(set(facts.bases)))}"


class Said(NamedTuple):
    """What the metadata say of the base."""

    base: str
    says: str
    #: Only the name of a file suggests it.
    suggested: bool = False


def said_bases(metadata: Mapping[str, str]) -> Iterator[Said]:
    """The bases that the metadata name, the surest first: trainers leave some keys as another trainer wrote them."""
    if metadata.get("ss_v2") == "True":
        yield Said("sd-2", "its metadata ss_v2 says True")
    for keys, suggested in ((_SAYING, False), (_SUGGESTING, True)):
        for key in keys:
            base = _named_base(metadata.get(key, ""))
            if base:
                yield Said(base, f"its metadata {key} says {shorten(metadata[key])}", suggested)


def _named_base(name: str) -> str | None:
    """The base that a text has a word for."""
    return next((base for pattern, base in _PATTERNS if pattern.search(name.lower())), None)


def _why(facts: LoraFacts) -> str:
    title = " or ".join(dict.fromkeys(architecture.name for architecture in facts.fitting))
    if facts.odd is not None:
        return f"nearly all of its layers are those of {title}, but not {shorten(facts.odd.stem)}"
    if facts.blocks:
        counts = " and ".join(f"{count} {stem}" for stem, count in facts.blocks.items())
        return f"it changes {counts}, as many as {title} has"
    decisive = facts.decisive
    if decisive is not None:
        return f"{shorten(decisive.stem)} is a layer of {measured(decisive.layer.measure)}, as in {title}"
    encoders = ", ".join(f"{part} is {encoder}" for part, encoder in facts.encoders.items())
    return f"it changes a text encoder of {title} ({encoders})" if encoders else f"its layers are those of {title}"


def _open(facts: LoraFacts) -> str:
    if facts.odd is not None or (not facts.bases and facts.strange[1] < len(facts.targets)):
        odd = facts.odd or facts.targets[0]
        return f"no model has layers like {shorten(odd.stem)} ({measured(odd.layer.measure)})"
    if not facts.bases:
        return f"its layers have names that no known model has ({shorten(facts.targets[0].stem)})"
    return ""


def _titles(bases: set[str]) -> list[str]:
    return list(dict.fromkeys(_title(a.base) for a in ARCHITECTURES if a.base in bases))


def _title(base: str) -> str:
    """How a base is called, when it has one architecture; else its word."""
    names = {architecture.name for architecture in ARCHITECTURES if architecture.base == base}
    return names.pop() if len(names) == 1 else base
