"""The downloader: fetches models for the daemon, so that a slow server never holds the loop up. One order at a time.

    python -m invokeai_daemon.workers.downloader --root DIR

Started by the daemon when a request lies in autoimport/; speaks the protocol of `protocol`. It has the network and
reads the settings itself, so that no token stands in a command line; what it fetched it does not look into. Never
imports torch, never writes the registry.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import DaemonError, DiskFull, FetchInterrupted, InstallError
from invokeai_daemon.models.install.checks import Checksum
from invokeai_daemon.models.install.fetch import Fetcher, Order
from invokeai_daemon.models.install.sources import LocalPath
from invokeai_daemon.root import Root
from invokeai_daemon.settings import load_settings
from invokeai_daemon.workers.pipes import Emit, emitter, orders, private_output
from invokeai_daemon.workers.protocol import Message, ProtocolError

log = logging.getLogger("invokeai_daemon.downloader")

#: Failures of the machine, not of what is fetched: the same may succeed later.
TEMPORARY = {errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EROFS, errno.ENODEV}
#: Seconds between two words about the progress; also between looks at whether the request is still there.
TELL_SECONDS = 0.25
#: What makes other processes stay away from the hub; this one is there to ask it.
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class Cancelled(InstallError):
    """Nobody asks for it any more."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetches models for invokeai-daemon, which starts it.")
    parser.add_argument("--root", required=True, type=Path)
    root = Root(parser.parse_args().root)
    logging.basicConfig(level=logging.INFO, format="downloader: %(message)s", stream=sys.stderr)
    for name in ("httpx", "httpx2"):
        # They log each address, with what stands in it.
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _OFFLINE:
        os.environ.pop(name, None)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    emit = emitter(private_output())
    emit({"event": "ready", "worker": "downloader", "pid": os.getpid()})
    try:
        for order in orders(0, lambda: emit({"event": "beat"})):
            if order.get("order") == "stop":
                break
            emit(Installation(root, order, emit).outcome())
    except (BrokenPipeError, ProtocolError) as error:
        log.error("%s", error)
        return 1
    return 0


class Installation:
    """One order, and how it ends."""

    def __init__(self, root: Root, order: Message, emit: Emit, environ: Mapping[str, str] = os.environ) -> None:
        self._root, self._order, self._emit, self._environ = root, order, emit, environ
        self._told = 0.0

    def outcome(self) -> Message:
        """The event that ends the order: `installed` or `failed`. Raises only when nobody listens any more."""
        try:
            return self._event("installed", arrivals=self._arrivals())
        except BrokenPipeError:
            raise
        except (FetchInterrupted, DiskFull) as error:
            return self._failed(str(error), temporary=True)
        except DaemonError as error:
            return self._failed(str(error), temporary=False)
        except OSError as error:
            where = error.filename or "while it was fetched"
            return self._failed(f"{error.strerror or error} ({where}).", error.errno in TEMPORARY)
        except Exception as error:
            log.exception("an order failed in a way that was not foreseen")
            return self._failed(f"{type(error).__name__}: {error}; the log says more.", temporary=False)

    def _arrivals(self) -> list[dict[str, Any]]:
        # Read for each order: a token that was put there helps at once.
        settings = load_settings(self._root.settings_file, self._environ)
        fetcher = Fetcher(self._root, settings, self._environ, self._tell, self._pause)
        order = self._order
        source = fetcher.parse(order["source"])
        if isinstance(source, LocalPath):
            raise InstallError(f"{source} is a path; a request names addresses.")
        wanted = Order(
            source,
            Path(order["folder"]) if order.get("folder") else None,
            order.get("name", ""),
            Checksum.parse(order["hash"]) if order.get("hash") else None,
            has_sidecar=bool(order.get("has_sidecar")),
        )
        return [{"path": str(found.path), "was_there": found.was_there} for found in fetcher.fetch(wanted)]

    def _tell(self, name: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._told < TELL_SECONDS:
            return
        self._told = now
        request = self._order.get("request")
        if request and not os.path.lexists(request):
            raise Cancelled(f"{request} is gone, so {name} is not wanted any more.")
        self._emit(self._event("progress", file=name, done=done, of=total))

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, TELL_SECONDS))
            self._emit({"event": "beat"})

    def _failed(self, reason: str, temporary: bool) -> Message:
        return self._event("failed", reason=reason, temporary=temporary)

    def _event(self, event: str, **facts: Any) -> Message:
        return {"event": event, "key": self._order.get("key"), **facts}


if __name__ == "__main__":
    sys.exit(main())
