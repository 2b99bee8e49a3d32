"""Identify: say what a model file or folder is, with the evidence, or say what came close and why it is not that.

Called by the importer, the registry and `models identify`. A file is an index over its names (`weights`) held against
tables (`rooms`); a folder says in its configs what it is (`folders`). What people say in a sidecar wins, then what the
file shows, then what its place suggests, then the documented default. Never imports torch, never reads a tensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from invokeai_daemon.errors import AmbiguousModel, ModelError, UnknownModel
from invokeai_daemon.models.header import Header, read_header
from invokeai_daemon.models.identify.deciding import NOTHING, Finding, decide
from invokeai_daemon.models.identify.folders import read_folder
from invokeai_daemon.models.identify.rooms import FAMILIES, matches_of
from invokeai_daemon.models.identify.weights import Weights
from invokeai_daemon.models.identity import Identity, Verdict
from invokeai_daemon.models.sidecar import Sidecar

__all__ = ["FAMILIES", "NOTHING", "UnusableModel", "identify", "judge"]


class UnusableModel(UnknownModel):
    """It is known what it is, but it cannot be used yet; the message says why and what to do."""

    def __init__(self, message: str, identity: Identity, nearest: Iterable[tuple[str, str]]) -> None:
        self.identity = identity
        super().__init__(message, nearest)


def identify(model: Header | Path, sidecar: Sidecar | None = None, hint: str | None = None) -> Identity:
    """What a model is.

    `hint` is what the place where it lies suggests, in words of an Identity ("lora", "sdxl", "sdxl/lora"); it only
    settles what the file leaves open.

    Raises UnusableModel (with `identity`) for what is known but cannot be used yet, UnknownModel (with `nearest`) for
    what is of no known family, AmbiguousModel for what fits several, UnreadableModel and UnsafeModel from reading it.
    """
    finding = _examined(model, sidecar, hint)
    if finding.unusable:
        raise UnusableModel(finding.unusable, finding.identity, finding.nearest)
    return finding.identity


def judge(model: Header | Path, sidecar: Sidecar | None = None, hint: str | None = None) -> Verdict:
    """How an intake of this file would end, as a value: every ModelError becomes a verdict with its reason.

    Whether what `identity.needs` names is on this machine is for the registry to say.
    """
    try:
        finding = _examined(model, sidecar, hint)
    except UnknownModel as error:
        return Verdict("unknown", NOTHING, str(error), error.nearest)
    except AmbiguousModel as error:
        return Verdict("unknown", NOTHING, str(error), tuple((name, "it fits as well") for name in error.candidates))
    except ModelError as error:
        return Verdict("rejected", NOTHING, str(error))
    state = "unusable" if finding.unusable else "ok"
    return Verdict(state, finding.identity, finding.unusable, finding.nearest)


def _examined(model: Header | Path, sidecar: Sidecar | None, hint: str | None) -> Finding:
    if isinstance(model, Path) and model.is_dir():
        return read_folder(model, sidecar, hint)
    header = model if isinstance(model, Header) else read_header(model)
    weights = Weights(header)
    shard = _shard(header.path)
    try:
        found = decide(str(header.path), weights, matches_of(weights), sidecar, hint)
    except UnknownModel as error:
        raise UnknownModel(f"{error} {shard}".strip(), error.nearest) from error
    return replace(found, unusable=f"{header.path}: {shard}") if shard and not found.unusable else found


_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\b")


def _shard(path: Path) -> str:
    """What to do with a file whose name says that it is a part of one; empty when it does not."""
    found = _SHARD.search(path.name)
    if found is None or found[2] == "00001":
        return ""
    return (
        f"By its name it is shard {int(found[1])} of {int(found[2])} of a model. Drop the folder that it comes from, "
        "with its config.json and all shards, or the model as one file."
    )
