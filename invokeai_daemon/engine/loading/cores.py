"""Cores: how the denoising and the decoding thread share the processor. Called around every forward.

OpenMP gives each of the two threads a team of its own; two teams of all cores wait for each other at every barrier,
several times slower than taking turns. Thread counts are fixed per model, never by load: they change the last bits.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from invokeai_daemon.engine.loading.precision import SMALL_MODEL


@dataclass(frozen=True)
class Share:
    """How one model uses the cores."""

    #: Threads of each forward.
    threads: int
    #: Held during a forward when both kinds of forward use all cores; None when they run side by side.
    turn: threading.Lock | None

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Around a forward, in whichever thread makes it."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        with self.turn or contextlib.nullcontext():
            yield


_turn = threading.Lock()


def share_of(parameters: int, device: torch.device, cores: int) -> Share:
    """A small model's forwards are too short to divide: one core denoises, another decodes. A large one's take turns.

    Beside an accelerator nothing needs dividing.
    """
    if device.type != "cpu":
        return Share(cores, None)
    if parameters < SMALL_MODEL:
        return Share(1, None)
    return Share(cores, _turn)
