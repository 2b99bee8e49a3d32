"""Voting: every layer leaves some architectures possible, by its module's name and size; what all agree on is the base.

Used by `facts`. A layer whose name no table knows has no vote. Layers that contradict each other are outvoted only by
nearly all others, and the first of them is told.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache, reduce
from operator import or_
from typing import NamedTuple

from invokeai_daemon.models.identify.lora import others, text, transformers, unets, video
from invokeai_daemon.models.identify.lora.layers import NOTHING, Layer
from invokeai_daemon.models.identify.lora.modules import Architecture, Index, candidates, every, indexed
from invokeai_daemon.models.identify.lora.names import Place

ARCHITECTURES: tuple[Architecture, ...] = (
    *unets.ARCHITECTURES,
    *transformers.ARCHITECTURES,
    *others.ARCHITECTURES,
    *video.ARCHITECTURES,
)
ALL = (1 << len(ARCHITECTURES)) - 1

#: Of layers that contradict each other, the share that must agree for the rest to be oddities.
AGREEING = 0.9


class Target(NamedTuple):
    """A layer of the model that the file changes, and how."""

    #: As it is written in the file, without the leaf.
    stem: str
    place: Place
    layer: Layer


class Vote(NamedTuple):
    """What the layers of one part of the pipeline agree on."""

    #: Mask of the architectures that every layer allows.
    mask: int
    #: The last layer that ruled something out.
    decisive: Target | None = None
    #: Layers whose name is known.
    voters: int = 0
    #: The first layer that the others contradict.
    odd: Target | None = None


@cache
def nets() -> Index:
    """The modules of everything that denoises."""
    return indexed(ARCHITECTURES)


@cache
def towers() -> Index:
    """The modules of text encoders."""
    return indexed(text.TOWERS)


def voted(index: Index, everyone: int, targets: Iterable[Target]) -> Vote:
    """What the layers agree on; where they contradict each other, what nearly all of them agree on."""
    mask, voting, tally = everyone, list[Target](), Counter[int]()
    decisive: Target | None = None
    for target in targets:
        allowed = _allowed(index, target)
        if allowed is None:
            continue
        voting.append(target)
        tally[allowed] += 1
        if allowed & mask != mask:
            decisive = target if allowed & mask else decisive
            mask &= allowed
    voters = len(voting)
    if mask or not voters:
        return Vote(mask if voters else 0, decisive, voters)
    mask = _most_agree_on(tally)
    odd = next(target for target in voting if not mask & (_allowed(index, target) or 0))
    return Vote(mask, None, voters, odd)


def _allowed(index: Index, target: Target) -> int | None:
    measure = target.layer.measure
    if measure == NOTHING:
        return None
    return candidates(index, target.place.module, measure)


def _most_agree_on(tally: Counter[int]) -> int:
    votes = Counter[int]()
    for allowed, count in tally.items():
        for number in every(allowed):
            votes[number] += count
    best = max(votes.values(), default=0)
    if best < AGREEING * tally.total():
        return 0
    return sum(1 << number for number, count in votes.items() if count == best)


def encoders_of(targets: Iterable[Target]) -> tuple[dict[str, str], int]:
    """Which text encoders are changed, and the mask of the architectures that read prompts with them."""
    by_part: dict[str, list[Target]] = defaultdict(list)
    for target in targets:
        by_part[target.place.part].append(target)
    found, mask = {}, ALL
    for part, layers in by_part.items():
        vote = voted(towers(), (1 << len(text.TOWERS)) - 1, layers)
        names = [text.TOWERS[number].base for number in every(vote.mask)]
        if not vote.voters or not names:
            continue
        found[part] = names[0] if len(names) == 1 else "one of several encoders"
        bases = {base for name in names for base in text.PLACES.get(part, {}).get(name, ())}
        mask &= sum(1 << number for number, net in enumerate(ARCHITECTURES) if net.base in bases) if bases else ALL
    return found, mask


def namesakes_of(targets: Iterable[Target]) -> tuple[Architecture, ...]:
    """The architectures that have modules of all known names, whatever their sizes."""
    mask = ALL
    for target in targets:
        sizes = nets().get(target.place.module) if target.place.part == "unet" else None
        if sizes:
            mask &= reduce(or_, sizes.values())
    return () if mask == ALL else tuple(ARCHITECTURES[number] for number in every(mask))
