"""Deciding: from families held against a file to one identity, in an order of authority that is written down here.

Called by `identify` and `folders`. A sidecar wins, even over the shapes, and what contradicts it is told; then what
fits the file; then the hint of its place; then a documented default, marked as assumed. A tie is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from invokeai_daemon.errors import AmbiguousModel, UnknownModel
from invokeai_daemon.models.identify.quantised import PLAIN, quantisation
from invokeai_daemon.models.identify.table import Choice, Decision, Family, Match
from invokeai_daemon.models.identify.weights import Weights, shorten
from invokeai_daemon.models.identity import BASES, TYPES, Identity
from invokeai_daemon.models.sidecar import Sidecar

NOTHING = Identity("unknown", "unknown", "unknown")

#: How many of the families that came close a sentence names.
NAMED = 3
#: How many beginnings of names are told of a file that nobody knows.
BEGINNINGS = 4


@dataclass(frozen=True)
class Finding:
    """What was found out about a model."""

    identity: Identity
    #: The families that came close, each with the fact that ruled it out.
    nearest: tuple[tuple[str, str], ...] = ()
    #: Why it cannot be used and what to do, as a message; empty when it can.
    unusable: str = ""


@dataclass(frozen=True)
class Said:
    """What people said of a model: the words of its sidecar, and those of the folder where it lies."""

    sidecar: Sidecar | None
    hint: str | None

    @property
    def type(self) -> str | None:
        return self.sidecar.type if self.sidecar else None

    @property
    def base(self) -> str | None:
        return self.sidecar.base if self.sidecar else None

    @property
    def hinted_type(self) -> str | None:
        return next((word for word in self._hints if word in TYPES), None)

    @property
    def hinted_base(self) -> str | None:
        return next((word for word in self._hints if word in BASES), None)

    @property
    def _hints(self) -> list[str]:
        return self.hint.split("/") if self.hint else []

    def allows(self, family: Family, *, whatever_base: bool = False) -> bool:
        """Whether a family is of the type and base that the sidecar says."""
        if self.type not in (None, family.type):
            return False
        return whatever_base or self.base is None or self.base in family.bases


def decide(
    where: str, weights: Weights, matches: Sequence[Match], sidecar: Sidecar | None, hint: str | None
) -> Finding:
    """The one family that a file is of. Raises UnknownModel and AmbiguousModel."""
    said = Said(sidecar, hint)
    fitting = [match for match in matches if match.fits]
    if said.type or said.base:
        match = _as_the_sidecar_says(where, matches, fitting, said)
    else:
        match = _the_only_one(where, _without_preceded(fitting), said)
    near = sorted((other for other in matches if other.near and not other.fits), key=_closeness)
    nearest = _named_once(near, match)
    if match is None and said.type:
        return _on_the_word_of_the_sidecar(where, weights, said, nearest)
    if match is None:
        raise _unknown(where, weights, nearest)
    return _finding(where, weights, match, said, nearest)


def _closeness(match: Match) -> tuple[int, float, str, str]:
    return (len(match.against), -match.share, match.family.title, match.family.name)


def _named_once(near: Sequence[Match], chosen: Match | None) -> tuple[tuple[str, str], ...]:
    """Title and reason of each family that came close; of several with one title, the closest; the chosen one's not."""
    reasons: dict[str, str] = {}
    for match in near:
        if chosen is None or match.family.title != chosen.family.title:
            reasons.setdefault(match.family.title, match.against[0])
    return tuple(reasons.items())


def _without_preceded(fitting: list[Match]) -> list[Match]:
    """Without the types that another of them goes before."""
    preceded = {type_ for match in fitting for type_ in match.family.before}
    return [match for match in fitting if match.family.type not in preceded] or fitting


def _the_only_one(where: str, fitting: list[Match], said: Said) -> Match | None:
    if len(fitting) > 1 and said.hinted_type:
        fitting = [match for match in fitting if match.family.type == said.hinted_type] or fitting
    if len(fitting) > 1 and said.hinted_base:
        fitting = [match for match in fitting if said.hinted_base in match.family.bases] or fitting
    if len(fitting) > 1:
        raise _ambiguous(where, fitting)
    return fitting[0] if fitting else None


def _ambiguous(where: str, fitting: list[Match]) -> AmbiguousModel:
    names = sorted({match.family.title for match in fitting})
    if len(names) == 1:
        names = sorted({match.family.name for match in fitting})
    types = sorted({match.family.type for match in fitting})
    bases = sorted({base for match in fitting for base in match.family.bases})
    example = f'type = "{types[0]}"' if len(types) > 1 else f'base = "{bases[0]}"' if bases else 'base = "…"'
    return AmbiguousModel(
        f"{where}: it may be {' or '.join(names)}. Say which in a sidecar: a file of the same name ending in "
        f".toml with, for instance, {example}.",
        names,
    )


def _as_the_sidecar_says(where: str, matches: Sequence[Match], fitting: list[Match], said: Said) -> Match | None:
    """The family that the sidecar names: one that fits, else the nearest, else one that fits but for its base."""
    named = _without_preceded([match for match in fitting if said.allows(match.family)])
    if named:
        return _the_only_one(where, named, said)
    near = [match for match in matches if match.near and said.allows(match.family)]
    if near:
        return min(near, key=lambda match: (match.family.only_named, *_closeness(match)))
    of_the_type = [match for match in fitting if said.allows(match.family, whatever_base=True)]
    return _the_only_one(where, _without_preceded(of_the_type), said)


def _on_the_word_of_the_sidecar(
    where: str, weights: Weights, said: Said, nearest: tuple[tuple[str, str], ...]
) -> Finding:
    """A model that only its sidecar knows."""
    assert said.sidecar is not None and said.type is not None
    identity = Identity(
        said.type,
        said.base or said.hinted_base or "unknown",
        "checkpoint",
        said.sidecar.variant,
        said.sidecar.prediction_type,
        (f"its sidecar says {said.type}", f"nothing in the file shows it: {_seen(weights)}"),
    )
    reason = f"{where}: its sidecar says {said.type}, but no family of that type knows such names: {_seen(weights)}."
    return Finding(identity, nearest, reason)


# The words of the identity


def _finding(where: str, weights: Weights, match: Match, said: Said, nearest: tuple[tuple[str, str], ...]) -> Finding:
    family, view = match.family, match.view
    quantised = quantisation(view) if _is_weights(family) else PLAIN
    notes = [*match.evidence, *quantised.evidence, *weights.header.notes, *_contradictions(match, said)]
    assumed: list[str] = []

    candidates: dict[str, tuple[str, ...]] = {}

    def word(field: str, choice: str | Choice, said_word: str | None) -> str | None:
        decision = Decision(choice) if isinstance(choice, str) else choice.decide(view)
        if said_word and decision.word != said_word:
            notes.append(_overruled(field, said_word, decision))
            return said_word
        if decision.says:
            notes.append(decision.says)
        if len(decision.torn) > 1 and not said_word:
            candidates[field] = decision.torn
            notes.append(f"its {field} may be {' or '.join(decision.torn)}")
        if decision.assumed and not said_word:
            assumed.append(field)
        return said_word or decision.word

    sidecar = said.sidecar
    base = word("base", family.base, said.base)
    bases = candidates.get("base", tuple(sorted(family.bases)))
    if base is None or "base" in assumed:
        base = _hinted_base(bases, said, notes, assumed) or base
    format_ = word("format", family.format, None) or "unknown"
    identity = Identity(
        said.type or family.type,
        base or "unknown",
        quantised.format if format_ == "checkpoint" and quantised.format else format_,
        word("variant", family.variant, sidecar.variant if sidecar else None),
        word("prediction_type", family.prediction_type, _said_prediction(family, sidecar)),
        dialect=word("dialect", family.dialect, None),
        needs=tuple(family.needs(view)),
    )
    identity = replace(identity, evidence=tuple(dict.fromkeys(notes)), assumed=tuple(assumed))
    return Finding(identity, nearest, _unusable(where, match, identity, bases, quantised.unusable, said))


def _is_weights(family: Family) -> bool:
    """Whether its files hold the weights of a network, which may be stored in fewer bits, and not changes to them."""
    return family.format == "checkpoint" if isinstance(family.format, str) else "checkpoint" in family.format.words


def _said_prediction(family: Family, sidecar: Sidecar | None) -> str | None:
    """What is said beside the file, where the family predicts anything."""
    return sidecar.prediction_type if sidecar and family.prediction_type.words else None


def _overruled(field: str, said_word: str, decision: Decision) -> str:
    shown = f"a file beside it says {field} {said_word}"
    if decision.word is None or decision.assumed:
        return shown
    return f"{shown}, but the file says {decision.word}" + (f" ({decision.says})" if decision.says else "")


def _hinted_base(bases: tuple[str, ...], said: Said, notes: list[str], assumed: list[str]) -> str | None:
    """The base that its folder suggests, where the file leaves it open and the family may have it."""
    hinted = said.hinted_base
    if hinted is None or not (hinted in bases or not bases):
        return None
    if "base" in assumed:
        assumed.remove("base")
    notes.append(f"the folder in which it lies says {hinted}")
    return hinted


def _contradictions(match: Match, said: Said) -> Iterator[str]:
    """What speaks against the word of a sidecar."""
    if match.fits or not (said.type or said.base):
        return
    wanted = " ".join(word for word in (said.base, said.type) if word)
    yield f"its sidecar says {wanted}, but {match.against[0]}"


def _unusable(where: str, match: Match, identity: Identity, bases: tuple[str, ...], quantised: str, said: Said) -> str:
    family = match.family
    why = family.unusable if isinstance(family.unusable, str) else family.unusable(match.view)
    if not why and not said.base:
        why = family.doubtful(match.view)
    if not why and identity.base == "unknown":
        why = (
            "its base cannot be told from the file. Say it in a sidecar: a file of the same name ending in .toml with "
            f'base = "{bases[0] if bases else "sd-1"}"' + (f" (or {', '.join(bases[1:])})" if bases[1:] else "")
        )
    why = why or quantised
    return f"{where}: it is {family.name}, and cannot be used yet: {why.rstrip('.')}." if why else ""


# What nobody knows


def _unknown(where: str, weights: Weights, nearest: tuple[tuple[str, str], ...]) -> UnknownModel:
    how = "If you know what it is, say so in a sidecar: a file of the same name ending in .toml with type and base."
    if nearest:
        closest = "; ".join(f"not {title}, because {why}" for title, why in nearest[:NAMED])
        return UnknownModel(f"{where}: a model of no known family: {closest}. {how}", nearest)
    return UnknownModel(f"{where}: a weight file of no known family: {_seen(weights)}. {how}")


def _seen(weights: Weights) -> str:
    """What is in a file, told to someone who wants to know what it is."""
    if not weights:
        return "it has no tensors"
    counts = Counter(".".join(name.split(".")[:2]) if "." in name else name for name in weights.names)
    common = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:BEGINNINGS]
    shown = ", ".join(f"{shorten(name)}… ({count})" if count > 1 else shorten(name) for name, count in common)
    more = ", …" if len(counts) > BEGINNINGS else ""
    number = len(weights)
    return f"{number} tensor{'' if number == 1 else 's'}: {shown}{more}"
