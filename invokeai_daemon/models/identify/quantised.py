"""Quantised: how the weights of a file are stored when they are not plain floating-point numbers.

Asked by `identify` once a family is known: the same network comes in many storages, and the format word follows from
the storage. Only names, shapes and dtypes are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from invokeai_daemon.models.identify.weights import Weights


@dataclass(frozen=True)
class Storage:
    """How the weights are stored."""

    #: InvokeAI's format; empty when it has no own word.
    format: str = ""
    evidence: tuple[str, ...] = ()
    #: Why it cannot be used, and what to do; empty when it can.
    unusable: str = ""


PLAIN = Storage()


def quantisation(weights: Weights) -> Storage:
    """How the tensors of a view are stored."""
    return PLAIN
