"""The service manager's protocol, spoken to a socket as systemd binds it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from invokeai_daemon.daemon.systemd import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@invokeai-daemon-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name[1:] if name.startswith("@") else name)
        receiver.settimeout(5)
        yield receiver, name


def test_each_message_is_one_datagram(manager: tuple[socket.socket, str]) -> None:
    receiver, address = manager
    service = ServiceManager({"NOTIFY_SOCKET": address})
    service.ready()
    service.status("idle")
    service.status("idle")
    service.alive()
    service.stopping()
    heard = [receiver.recv(1000) for _ in range(4)]
    service.close()
    assert heard == [b"READY=1", b"STATUS=idle", b"WATCHDOG=1", b"STOPPING=1"]


def test_without_a_manager_nothing_happens() -> None:
    service = ServiceManager({})
    service.ready()
    service.close()


def test_a_manager_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    service.ready()
    service.close()


def test_signs_of_life_come_well_within_the_watchdog_time() -> None:
    interval = ServiceManager({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, pid=7).watchdog_interval
    assert interval is not None
    assert interval < 30


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}])
def test_a_watchdog_that_is_not_ours_is_not_fed(environ: dict[str, str]) -> None:
    assert ServiceManager(environ, pid=7).watchdog_interval is None
