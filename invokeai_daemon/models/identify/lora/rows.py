"""Rows: what a LoRA is in the tables of identification. The facts are worked out once per file, each rule tells one."""

from __future__ import annotations

from invokeai_daemon.models.identify.lora.bases import TWINS, base_of, contradiction
from invokeai_daemon.models.identify.lora.dialects import DIALECTS, dialect_of, is_control, is_motion, is_omi
from invokeai_daemon.models.identify.lora.facts import LoraFacts, facts_of, measured
from invokeai_daemon.models.identify.lora.voting import ARCHITECTURES
from invokeai_daemon.models.identify.table import Answer, Choice, Decision, Family, Rule, quietly
from invokeai_daemon.models.identify.weights import Weights, shorten

#: IP-Adapters for faces have LoRA layers, too.
_IP_ADAPTER = ("image_proj.", "ip_adapter.", "ip_adapter_proj_model.")

#: A file whose other tensors are fewer than one in so many consists of changes.
MOSTLY = 4

_PARTS = {
    "unet": "the UNet or transformer",
    "te": "the text encoder",
    "te1": "text encoder 1",
    "te2": "text encoder 2",
    "te3": "text encoder 3",
    "te4": "text encoder 4",
    "text_encoder": "text encoder 1",
    "text_encoder_2": "text encoder 2",
    "text_encoder_3": "text encoder 3",
    "clip_l": "CLIP-L",
    "clip_g": "CLIP-G",
    "t5": "T5",
}


def _facts(weights: Weights) -> LoraFacts | None:
    return weights.whole.ask(_gathered)


def _gathered(weights: Weights) -> LoraFacts | None:
    return facts_of(weights.header)


def _is_control(weights: Weights) -> bool:
    return is_control(_known(weights))


def _dialect(weights: Weights) -> str:
    return dialect_of(_known(weights), weights.header)


def _known(weights: Weights) -> LoraFacts:
    facts = _facts(weights)
    assert facts is not None, "asked of a file that is no LoRA"
    return facts


# Marks and what is told


def _is_lora(weights: Weights) -> Answer:
    facts = _facts(weights)
    if facts is None:
        return Answer(False, "it has no layers of a LoRA")
    return Answer(True, f"it has the layers of a LoRA ({shorten(facts.targets[0].stem)})")


def _mostly_layers(weights: Weights) -> Answer:
    beside, tensors = _known(weights).beside, len(weights.header.tensors)
    return Answer(
        2 * beside <= tensors, f"{beside} of its {tensors} tensors belong to no layer of a LoRA" if beside else ""
    )


def _no_ip_adapter(weights: Weights) -> Answer:
    tensors = weights.header.tensors if _known(weights).beside else ()
    found = next((name for name in tensors if name.startswith(_IP_ADAPTER)), None)
    return Answer(False, f"it has the projections of an IP-Adapter ({shorten(found)})") if found else Answer(True)


def _control(expected: bool) -> Rule:
    def rule(weights: Weights) -> Answer:
        if weights.whole.ask(_is_control):
            return Answer(expected, "it widens the input of FLUX from 64 to 128 channels, for a control picture")
        return Answer(not expected, "" if not expected else "it does not take a control picture")

    return rule


def _tells(weights: Weights) -> Answer:
    facts = _known(weights)
    kinds = ", ".join(f"{count} {kind}" for kind, count in facts.kinds.items())
    parts = " and ".join(f"{_layers(count)} of {_PARTS[part]}" for part, count in facts.parts.items())
    low, high = facts.ranks
    ranks = f", rank {low}" if low == high else f", ranks {low} to {high}"
    return Answer(True, f"it changes {parts}: {kinds}{ranks if high else ''}")


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


def _tells_dialect(weights: Weights) -> Answer:
    facts, dialect = _known(weights), weights.whole.ask(_dialect)
    written = ", ".join(f"{prefix}…" for prefix in facts.prefixes if prefix)
    return Answer(True, f"its names are written {DIALECTS[dialect]}" + (f" ({written})" if written else ""))


def _tells_oddities(weights: Weights) -> Answer:
    facts = _known(weights)
    told = [contradiction(facts, weights.metadata)]
    name, count = facts.strange
    if count and facts.bases:
        told.append(f"{count} of its layers have names that no table knows ({shorten(name)})")
    if facts.unusable and len(facts.unusable) < len(facts.kinds):
        left = ", ".join(f"{count} {kind}" for kind, count in facts.unusable.items())
        told.append(f"{left} layers cannot be applied, the others can")
    if facts.embeddings:
        told.append(f"it carries embeddings along ({', '.join(map(shorten, facts.embeddings))})")
    if facts.adapters:
        told.append(f"its adapter is called {', '.join(map(shorten, facts.adapters))}")
    return Answer(True, "; ".join(filter(None, told)))


def only_changes(weights: Weights) -> bool:
    """Whether a file has layers of a LoRA and hardly anything else: whatever their names, it is no model by itself."""
    facts = _facts(weights)
    if facts is None or facts.beside * MOSTLY >= len(weights.header.tensors):
        return False
    return _no_ip_adapter(weights).holds


# The words of the identity


class _Base(Choice):
    """The base that its layers, or else its metadata, tell."""

    @property
    def words(self) -> frozenset[str]:
        twins = {twin for twins in TWINS.values() for twin in twins}
        return frozenset(architecture.base for architecture in ARCHITECTURES) | twins

    def decide(self, weights: Weights) -> Decision:
        base = base_of(_known(weights), weights.metadata, weights.header.path.stem)
        return Decision(base.word, base.says, base.assumed, base.candidates)


class _Variant(Choice):
    """Where a base has several sizes, the one whose layers these are."""

    def decide(self, weights: Weights) -> Decision:
        facts = _known(weights)
        variants = {architecture.variant for architecture in facts.fitting}
        return Decision(variants.pop() if len(facts.bases) == 1 and len(variants) == 1 else None)


class _Dialect(Choice):
    @property
    def words(self) -> frozenset[str]:
        return frozenset(DIALECTS)

    def decide(self, weights: Weights) -> Decision:
        return Decision(weights.whole.ask(_dialect))


class _Format(Choice):
    def decide(self, weights: Weights) -> Decision:
        return Decision("omi" if is_omi(weights.metadata) else "lycoris")


def _unusable(weights: Weights) -> str:
    facts = _known(weights)
    if is_motion(facts):
        return "it changes the motion modules of AnimateDiff, and films are not made here"
    if facts.broken:
        return f"{shorten(facts.broken)}. The file is damaged or was merged wrongly: fetch it again"
    if facts.unusable and len(facts.unusable) == len(facts.kinds):
        kinds = " and ".join(facts.unusable)
        return f"its layers are {kinds}, which cannot be applied yet. Look for a LoRA, LoHa or LoKr version of it"
    return ""


def _doubtful(weights: Weights) -> str:
    facts = _known(weights)
    if not facts.namesakes:
        return ""
    target = next((target for target in facts.targets if target.place.part == "unet"), facts.targets[0])
    size = measured(target.layer.measure)
    return (
        f"no model that is known has layers of its sizes ({shorten(target.stem)} is one of {size}). If you have the "
        "model that it was trained for, say its base in a sidecar: a file of the same name ending in .toml with "
        'base = "sd-1" (or that of the model)'
    )


_MARKS: tuple[Rule, ...] = (
    _is_lora,
    _no_ip_adapter,
)
_TOLD: tuple[Rule, ...] = (quietly(_mostly_layers), _tells, _tells_dialect, _tells_oddities)

FAMILIES: tuple[Family, ...] = (
    Family(
        "lora",
        _Base(()),
        "a LoRA",
        marks=(*_MARKS, _control(False)),
        rules=_TOLD,
        format=_Format(()),
        variant=_Variant(()),
        dialect=_Dialect(()),
        unusable=_unusable,
        doubtful=_doubtful,
        before=("embedding",),
    ),
    Family(
        "control_lora",
        "flux",
        "a control LoRA for FLUX",
        marks=(*_MARKS, _control(True)),
        rules=_TOLD,
        format="lycoris",
        dialect=_Dialect(()),
        unusable=_unusable,
        doubtful=_doubtful,
        before=("lora",),
    ),
)
