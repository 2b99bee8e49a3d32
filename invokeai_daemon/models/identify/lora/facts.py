"""Facts: everything a LoRA's names and shapes say, gathered in one walk over them.

`facts_of` is the door: identification tells a LoRA by it, and whoever loads one need not find out again how its layers
are written. The layers vote for the base (`voting`). Never reads a tensor, never guesses: what stays open is left as
several candidates.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from invokeai_daemon.models.header import Header, TensorInfo
from invokeai_daemon.models.identify.lora.layers import UNUSABLE, Measure, Shape, layer
from invokeai_daemon.models.identify.lora.modules import Architecture, every
from invokeai_daemon.models.identify.lora.names import TELLING, placed, taken_apart
from invokeai_daemon.models.identify.lora.voting import (
    ALL,
    ARCHITECTURES,
    Target,
    encoders_of,
    namesakes_of,
    nets,
    towers,
    voted,
)

#: A file that changes so many numbered blocks, without a gap from the first, is taken to change all that there are.
BLOCKS_THAT_TELL = 4

LONGEST_NAME = 300


@dataclass(frozen=True)
class LoraFacts:
    """What a LoRA is, from its header."""

    targets: tuple[Target, ...]
    #: Kind -> number of layers: {"LoRA": 192, "LoCon": 72}.
    kinds: Mapping[str, int]
    #: Part -> number of layers: {"unet": 192, "te": 72}.
    parts: Mapping[str, int]
    #: Beginnings of names, the most frequent first.
    prefixes: tuple[str, ...]
    #: The smallest and the largest rank; (0, 0) where no layer has one.
    ranks: tuple[int, int]
    #: The architectures that have all of these layers.
    fitting: tuple[Architecture, ...]
    #: The layer that decided, and the one that speaks against the others.
    decisive: Target | None = None
    odd: Target | None = None
    #: Where no architecture has such layers: those that have layers of these names, in other sizes.
    namesakes: tuple[Architecture, ...] = ()
    #: Text encoders: part -> encoder ("clip_l").
    encoders: Mapping[str, str] = field(default_factory=dict)
    #: The block counts that decided, where sizes left several: {"transformer_blocks": 19}.
    blocks: Mapping[str, int] = field(default_factory=dict)
    #: A layer whose name no table knows, and how many there are.
    strange: tuple[str, int] = ("", 0)
    #: Names of PEFT adapters between the words of a name: "default".
    adapters: tuple[str, ...] = ()
    #: Textual inversions that lie in the same file.
    embeddings: tuple[str, ...] = ()
    #: Why some factors cannot be multiplied.
    broken: str = ""
    #: Tensors beside the layers, which no loader of LoRAs looks at.
    beside: int = 0

    @property
    def bases(self) -> tuple[str, ...]:
        """The bases that it may be for, each once."""
        return tuple(dict.fromkeys(architecture.base for architecture in self.fitting))

    @property
    def unusable(self) -> Mapping[str, int]:
        """The kinds of change that cannot be applied."""
        return {kind: count for kind, count in self.kinds.items() if kind.partition(" ")[0] in UNUSABLE}


def facts_of(header: Header) -> LoraFacts | None:
    """What a LoRA's header says; None for a file that has no layer of a LoRA."""
    groups, adapters, beside = _grouped(header.tensors)
    if groups is None:
        return None
    targets = _targets(groups)
    if not targets:
        return None
    net = voted(nets(), ALL, [target for target in targets if target.place.part == "unet"])
    encoders, allowed = encoders_of([target for target in targets if target.place.part != "unet"])
    mask = net.mask & allowed or net.mask
    if not net.voters:
        mask = allowed if encoders else 0
    fitting = tuple(ARCHITECTURES[number] for number in every(mask))
    fitting, blocks = _counted(fitting, targets)
    strange = [stem for stem, (part, _, module), _ in targets if module not in (nets() if part == "unet" else towers())]
    ranks = [target.layer.rank for target in targets if target.layer.rank]
    prefixes = Counter(target.place.prefix for target in targets)
    return LoraFacts(
        tuple(targets),
        Counter(target.layer.kind for target in targets),
        Counter(target.place.part for target in targets),
        tuple(prefix for prefix, _ in prefixes.most_common()),
        (min(ranks), max(ranks)) if ranks else (0, 0),
        fitting,
        net.decisive,
        net.odd,
        () if fitting else namesakes_of(targets),
        encoders,
        blocks,
        (strange[0] if strange else "", len(strange)),
        tuple(sorted(adapters)),
        _embeddings(header.tensors) if beside else (),
        next((f"{target.stem}: {target.layer.broken}" for target in targets if target.layer.broken), ""),
        beside,
    )


# Gathering


def _grouped(tensors: Mapping[str, TensorInfo]) -> tuple[dict[str, dict[str, Shape]] | None, set[str], int]:
    """The tensors of each layer, by leaf; the adapters' names; and how many tensors belong to no layer."""
    groups: dict[str, dict[str, Shape]] = defaultdict(dict)
    adapters: set[str] = set()
    telling, beside = False, 0
    for name, info in tensors.items():
        # What is remembered must stay small, and no trainer writes names like that.
        spelling = taken_apart(name) if len(name) <= LONGEST_NAME else None
        if spelling is None:
            beside += 1
            continue
        stem, leaf, adapter = spelling
        groups[stem][leaf] = info.shape
        if adapter:
            adapters.add(adapter)
        telling = telling or leaf in TELLING
        if leaf == "on_input":
            # IA3 calls its factor "weight", which says nothing anywhere else.
            weight = tensors.get(f"{stem}.weight")
            if weight is not None:
                groups[stem]["weight"] = weight.shape
                beside -= 1
    return (groups if telling else None), adapters, beside


def _targets(groups: Mapping[str, Mapping[str, Shape]]) -> list[Target]:
    changes = ((stem, layer(leaves)) for stem, leaves in groups.items())
    return [Target(stem, placed(stem), change) for stem, change in changes if change is not None]


def _embeddings(tensors: Mapping[str, TensorInfo]) -> tuple[str, ...]:
    names = {name.split(".")[1] for name in tensors if name.startswith("bundle_emb.") and name.count(".") > 1}
    return tuple(sorted(names))


# Counting blocks

_NUMBERED = re.compile(r"(\D*?)_(\d+)_")


def _counted(
    fitting: tuple[Architecture, ...], targets: Iterable[Target]
) -> tuple[tuple[Architecture, ...], dict[str, int]]:
    """Of architectures with the same layers those that have as many blocks as the file changes, if it changes all."""
    if len({architecture.base for architecture in fitting}) < 2:
        return fitting, {}
    touched: dict[str, set[int]] = defaultdict(set)
    for target in targets:
        found = _NUMBERED.match(target.place.module) if target.place.part == "unet" else None
        if found:
            touched[found[1]].add(int(found[2]))
    counts = {stem: len(numbers) for stem, numbers in touched.items() if numbers == set(range(len(numbers)))}
    if len(counts) < len(touched) or max(counts.values(), default=0) < BLOCKS_THAT_TELL:
        return fitting, {}
    whole = tuple(a for a in fitting if all(a.blocks.get(stem) == count for stem, count in counts.items()))
    if not whole or len(whole) == len(fitting):
        return fitting, {}
    return whole, counts


def measured(measure: Measure) -> str:
    """The size of a layer for a sentence: "320x768"."""
    if measure.either is not None:
        return str(measure.either)
    return "x".join("?" if size is None else str(size) for size in (measure.rows, measure.columns))
