"""The importer: looks at dropped models, converts what can be converted, and says what it found. One order at a time.

    python -m invokeai_daemon.workers.importer [--memory-mb 4096]

Started by the daemon and by `models import`; speaks the protocol of `protocol`. It reads untrusted files, so it is
confined first. It never changes a dropped file, never writes the registry, never imports torch.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from invokeai_daemon.errors import AmbiguousModel, DiskFull, ModelError, UnknownModel
from invokeai_daemon.models.convert import convert_model, read_marker
from invokeai_daemon.models.convert.copying import content_hash
from invokeai_daemon.models.convert.families import family_of
from invokeai_daemon.models.header import Header, read_header
from invokeai_daemon.models.identify import NOTHING, UnsupportedModel, identify
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.models.registry import Entry
from invokeai_daemon.models.sidecar import Sidecar, read_sidecar
from invokeai_daemon.root import Root
from invokeai_daemon.workers.confine import confine
from invokeai_daemon.workers.protocol import Message, ProtocolError, decode, encode

log = logging.getLogger("invokeai_daemon.importer")

MEMORY_MB = 4096
BEAT_SECONDS = 0.5
#: Folders of autoimport/ whose name hints at a type, with InvokeAI's word for it.
HINTS = {
    "main": "main",
    "lora": "lora",
    "embedding": "embedding",
    "controlnet": "controlnet",
    "vae": "vae",
    "upscaler": "spandrel_image_to_image",
}
#: Failures of the machine, not of the model: the same import may succeed later.
TEMPORARY = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}

Emit = Callable[[Message], None]


def main() -> int:
    parser = argparse.ArgumentParser(description="Looks at models for invokeai-daemon, which starts it.")
    parser.add_argument("--memory-mb", type=int, default=MEMORY_MB, help="address space in MiB")
    wanted = parser.parse_args()
    parent = os.getppid()
    logging.basicConfig(level=logging.INFO, format="importer: %(message)s", stream=sys.stderr)
    emit = _emitter(_private_output())
    for complaint in confine(wanted.memory_mb, parent):
        log.warning("%s", complaint)
    emit({"event": "ready", "worker": "importer", "pid": os.getpid()})
    try:
        serve(0, emit)
    except (BrokenPipeError, ProtocolError) as error:
        log.error("%s", error)
        return 1
    return 0


def serve(orders: int, emit: Emit) -> None:
    """Follow the orders that arrive on a descriptor until "stop" or its end."""
    for order in _orders(orders, lambda: emit({"event": "beat"})):
        match order.get("order"):
            case "stop":
                return
            case "import":
                root = Root(Path(order["root"]))
                emit(Import(Path(order["path"]), root, emit, bool(order.get("verify"))).outcome())
            case "identify":
                emit(Import(Path(order["path"]), None, emit).outcome())
            case unknown:
                raise ProtocolError(f"no order of the importer: {unknown!r}")


def _private_output() -> BinaryIO:
    """The pipe to the daemon; whatever else writes to standard output now reaches standard error."""
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return pipe


def _emitter(pipe: BinaryIO) -> Emit:
    def emit(message: Message) -> None:
        line = memoryview(encode(message))
        while line:
            line = line[pipe.write(line) :]

    return emit


def _orders(descriptor: int, idle: Callable[[], None]) -> Iterator[Message]:
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


@dataclass
class Import:
    """One order: a path, and the root that it goes into, or None to only say what it is."""

    path: Path
    root: Root | None
    emit: Emit
    #: Compare a converted copy with its source: the daemon is going to delete the source.
    verify: bool = False
    #: As far as it is known.
    identity: Identity = NOTHING

    def outcome(self) -> Message:
        """The event that ends the order: `imported`, or a `verdict`. Never raises: this is where faults end."""
        try:
            return self._outcome()
        except UnsupportedModel as error:
            self.identity = error.identity
            return self._verdict("unknown", str(error), error.nearest)
        except UnknownModel as error:
            return self._verdict("unknown", str(error), error.nearest)
        except AmbiguousModel as error:
            return self._verdict("unknown", str(error), tuple((name, "it fits as well") for name in error.candidates))
        except ModelError as error:
            return self._verdict("rejected", str(error))
        except DiskFull as error:
            return self._verdict("rejected", str(error), temporary=True)
        except OSError as error:
            reason = f"{self.path}: {error.strerror or error} ({error.filename or 'while it was read or copied'})."
            return self._verdict("rejected", reason, temporary=error.errno in TEMPORARY)
        except MemoryError:
            reason = f"{self.path}: looking at it needs more memory than the importer may use ([import] memory_mb)."
            return self._verdict("rejected", reason)
        except Exception as error:
            log.exception("a fault while looking at %s", self.path)
            reason = f"{self.path}: {type(error).__name__}: {error}. This is a fault of invokeai-daemon; see its log."
            return self._verdict("rejected", reason)

    def _outcome(self) -> Message:
        sidecar = read_sidecar(self.path)
        header = None if self.path.is_dir() else read_header(self.path)
        self.identity = identify(header or self.path, sidecar, self._hint())
        if self.root is None:
            return self._verdict("ok", "")
        if header is not None and family_of(self.identity) is not None:
            return self._converted(header, sidecar, self.root)
        return self._in_place(header, sidecar)

    def _hint(self) -> str | None:
        """The type that the folder in autoimport/ suggests."""
        if self.root is None or not self.path.is_relative_to(self.root.autoimport):
            return None
        return HINTS.get(self.path.relative_to(self.root.autoimport).parts[0])

    def _converted(self, header: Header, sidecar: Sidecar, root: Root) -> Message:
        progress = _Paced(self.path, self.emit)
        folder = convert_model(header, self.identity, root, self._name(sidecar), progress, verify=self.verify)
        marker = read_marker(folder) or {}
        return self._imported(sidecar, folder, "diffusers", marker["hash"], marker["notes"])

    def _in_place(self, header: Header | None, sidecar: Sidecar) -> Message:
        digest = _hash_of_file(self.path) if header else _hash_of_folder(self.path)
        return self._imported(sidecar, self.path, self.identity.format, digest, [])

    def _imported(self, sidecar: Sidecar, path: Path, form: str, digest: str, notes: list[str]) -> Message:
        entry = Entry(
            name=self._name(sidecar),
            path=str(path.absolute()),
            format=form,
            type=self.identity.type,
            base=self.identity.base,
            variant=self.identity.variant,
            prediction_type=self.identity.prediction_type,
            hash=digest,
            source=str(self.path.absolute()),
            description=sidecar.description or "",
            default_settings=sidecar.default_settings.model_dump(exclude_none=True),
            trigger_phrases=tuple(sidecar.trigger_phrases),
            reason="; ".join([*self._taken_for_granted(), *notes]),
        )
        return {"event": "imported", "path": str(self.path), "entry": entry.as_json()}

    def _taken_for_granted(self) -> Iterator[str]:
        for field in self.identity.assumed:
            yield f"{field} {getattr(self.identity, field)} is taken for granted: nothing in the file tells it"

    def _name(self, sidecar: Sidecar) -> str:
        own = self.path.name if self.path.is_dir() else self.path.stem
        return sidecar.name or "".join(character if character.isprintable() else "-" for character in own)

    def _verdict(
        self, state: str, reason: str, nearest: tuple[tuple[str, str], ...] = (), *, temporary: bool = False
    ) -> Message:
        return {
            "event": "verdict",
            "path": str(self.path),
            "state": state,
            "identity": self.identity.as_json(),
            "reason": reason,
            "nearest": [list(pair) for pair in nearest],
            "temporary": temporary,
        }


class _Paced:
    """Progress as events: twice a second, however often it is told."""

    def __init__(self, path: Path, emit: Emit) -> None:
        self.path, self.emit, self.told = path, emit, time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        if time.monotonic() - self.told >= BEAT_SECONDS:
            self.told = time.monotonic()
            self.emit({"event": "progress", "path": str(self.path), "done": done, "of": of})


def _hash_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return content_hash(file.fileno())


def _hash_of_folder(folder: Path) -> str:
    """A hash of the names and contents of all files below a folder."""
    import blake3

    hasher = blake3.blake3()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        hasher.update(
            f"{path.relative_to(folder).as_posix()}\0{_hash_of_file(path)}\n".encode("utf-8", "surrogateescape")
        )
    return f"blake3:{hasher.hexdigest()}"


if __name__ == "__main__":
    sys.exit(main())
