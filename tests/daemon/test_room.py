"""Work waits for room on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from invokeai_daemon.daemon.room import DOUBT_SECONDS, WHILE_ENOUGH, WHILE_LOW, DiskRoom


class Disk:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free, self.now = 10e9, 0.0
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(20e9, 0, self.free))  # type: ignore[attr-defined]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_room_that_goes_and_comes_is_noticed_once_each(disk: Disk) -> None:
    room = DiskRoom(Path(), 1.0, lambda: disk.now)
    assert not room.look()
    disk.free, disk.now = 0.5e9, WHILE_ENOUGH
    assert not room.look()
    assert room.is_low
    assert "0.5 GB free" in room.why
    disk.free, disk.now = 2e9, WHILE_ENOUGH + WHILE_LOW
    assert room.look()
    assert not room.is_low
    assert not room.look()


def test_a_failed_write_holds_work_back_for_a_while(disk: Disk) -> None:
    room = DiskRoom(Path(), 1.0, lambda: disk.now)
    room.doubt()
    disk.now = DOUBT_SECONDS - 1
    assert not room.look()
    assert room.is_low
    assert "could not be written" in room.why
    disk.now = DOUBT_SECONDS + WHILE_LOW
    assert room.look()
