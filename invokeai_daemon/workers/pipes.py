"""Pipes: a worker's end of the protocol: orders from standard input, events to what was standard output."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO

from invokeai_daemon.workers.protocol import Message, decode, encode

BEAT_SECONDS = 0.5

Emit = Callable[[Message], None]


def private_output() -> BinaryIO:
    """The pipe to the daemon; whatever else writes to standard output now reaches standard error."""
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return pipe


def emitter(pipe: BinaryIO) -> Emit:
    """Writes events, one at a time whatever thread they come from."""
    lock = threading.Lock()

    def emit(message: Message) -> None:
        line = memoryview(encode(message))
        with lock:
            while line:
                line = line[pipe.write(line) :]

    return emit


def orders(descriptor: int, idle: Callable[[], None]) -> Iterator[Message]:
    """The orders on a descriptor until it ends; `idle` is called while there are none."""
    rest = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], BEAT_SECONDS)
        if not ready:
            idle()
            continue
        piece = os.read(descriptor, 65536)
        if not piece:
            return
        *lines, rest = (rest + piece).split(b"\n")
        yield from (decode(line) for line in lines if line.strip())
