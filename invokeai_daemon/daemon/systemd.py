"""The service manager's protocol: one datagram per message to $NOTIFY_SOCKET. Does nothing where there is none."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class ServiceManager:
    """Tells systemd how the daemon is. Sent from the main process only, and never raises."""

    def __init__(self, environ: Mapping[str, str] = os.environ, pid: int | None = None) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._status = ""
        self._socket: socket.socket | None = None
        #: Seconds between signs of life; None when nobody waits for them.
        self.watchdog_interval = _watchdog_interval(environ, os.getpid() if pid is None else pid)
        if self._address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent when it changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError):
            self._socket.sendto(message.encode(), socket.MSG_DONTWAIT, address)


def _watchdog_interval(environ: Mapping[str, str], pid: int) -> float | None:
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    try:
        return int(environ["WATCHDOG_USEC"]) / 1e6 / 3
    except (KeyError, ValueError):
        return None
