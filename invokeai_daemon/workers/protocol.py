"""The protocol between the daemon and its workers: one JSON object per line, orders down, events up.

A line is at most `MAX_LINE` bytes. Orders are read from the worker's standard input, events are written to its
standard output; everything else that a library prints goes to standard error.

Orders to the renderer
    {"order": "render", "plan": {…}, "images": [1, 2], "folder": "outputs/<job id>", "alone": false}
                                                        `alone`: share no forward with others (a suspect)
    {"order": "cancel", "job": "cat"}
    {"order": "stop"}                                   finish or abandon the current step, then exit

Orders to the importer, followed one after the other; many may wait
    {"order": "import", "path": "…", "root": "…", "verify": false, "use_ema": false, "dtype": "keep", "vae": null}
                                                        `verify`: compare the copy with its source afterwards
    {"order": "identify", "path": "…"}
    {"order": "hash", "path": "…"}                      in a thread; any other order puts it off
    {"order": "stop"}

Orders to the downloader
    {"order": "install", "key": 1, "source": "owner/repo", "request": "…/autoimport/x.url", "folder": "…" | null,
     "name": "", "hash": "", "has_sidecar": false}
                                                        it ends as soon as the file `request` is gone
    {"order": "stop"}

Events of every worker
    {"event": "ready", "worker": "renderer", "pid": 1, …}      once, when orders are taken
    {"event": "beat"}                                          from the working loop, at least once a second when idle

Events of the renderer
    {"event": "loading", "model": "demo"} · {"event": "loaded", "model": "demo", "seconds": 1.2}
    {"event": "step", "job": "cat", "image": 1, "step": 3, "steps": 20}   at most a few per second
    {"event": "published", "job": "cat", "image": 1, "file": "0001.42.png", "seed": 42, "seconds": 2.1,
     "warnings": [], "tokenization": {…} | null}
    {"event": "image_failed", "job": "cat", "image": 1, "error": "…", "temporary": false}
    {"event": "cancelled", "job": "cat"}

Events of the importer
    {"event": "progress", "path": "…", "done": 1, "of": 3}     bytes
    {"event": "imported", "path": "…", "entry": {…}, "identity": {…}, "fingerprint": "…"}
                                                        the registry entry, without its name's uniqueness; what the
                                                        ends of a file that stays in place hash to
    {"event": "verdict", "path": "…", "state": "unusable" | "unknown" | "rejected", "identity": {…}, "reason": "…",
     "nearest": [[family, why], …], "words": {…}, "temporary": false}
                                                        `words`: what its sidecar says; `temporary`: it may pass
                                                        if it is tried again, as a full disk
    {"event": "hashed", "path": "…", "hash": "blake3:…"}
    {"event": "put_off", "path": "…", "error": "…", "damaged": false}
                                                        with an error: it cannot be hashed; `damaged`: by its checksums

Events of the downloader
    {"event": "progress", "key": 1, "file": "…", "done": 1, "of": 3 | null}     bytes; at most a few per second
    {"event": "installed", "key": 1, "arrivals": [{"path": "…", "was_there": false}]}
    {"event": "failed", "key": 1, "reason": "…", "temporary": false}
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

MAX_LINE = 16 * 1024 * 1024

Message = dict[str, Any]


class ProtocolError(ValueError):
    """A worker sent something that is not a message of this protocol."""


def encode(message: Message) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape") + b"\n"


def decode(line: bytes) -> Message:
    """One message. Raises ProtocolError."""
    if len(line) > MAX_LINE:
        raise ProtocolError(f"a message of {len(line)} bytes; the limit is {MAX_LINE}")
    try:
        message = json.loads(line.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise ProtocolError(f"not JSON: {line[:200]!r}") from error
    if not isinstance(message, dict) or not ({"order", "event"} & message.keys()):
        raise ProtocolError(f"neither an order nor an event: {line[:200]!r}")
    return message


def messages(stream: BinaryIO) -> Iterator[Message]:
    """The messages of a stream until it ends. Raises ProtocolError."""
    while line := stream.readline(MAX_LINE + 1):
        yield decode(line)
