"""Whether paths are there is known without asking for each, and is right at the next look all the same."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from invokeai_daemon.models.entries import presence
from invokeai_daemon.models.entries.presence import Presence


def old(folder: Path) -> None:
    """Make a folder look as if it had not changed for long."""
    os.utime(folder, (time.time() - 100, time.time() - 100))


def test_what_comes_and_goes_is_seen_at_the_next_look(tmp_path: Path) -> None:
    file = tmp_path / "cat"
    seen = Presence()
    assert not seen.has(str(file))
    file.touch()
    assert seen.look()
    assert seen.has(str(file))
    file.unlink()
    assert seen.look()
    assert not seen.has(str(file))


def test_a_folder_at_rest_is_not_listed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (tmp_path / str(number)).touch()
    old(tmp_path)
    seen = Presence()
    assert seen.has(str(tmp_path / "1"))
    monkeypatch.setattr(presence, "_listed", None)
    assert not seen.look()
    assert seen.has(str(tmp_path / "2"))


def test_a_folder_that_goes_takes_what_is_in_it_and_brings_it_back(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    (folder / "cat").touch()
    old(folder)
    seen = Presence()
    assert seen.has(str(folder / "cat"))
    folder.rename(tmp_path / "away")
    assert seen.look()
    assert not seen.has(str(folder / "cat"))
    (tmp_path / "away").rename(folder)
    assert seen.look()
    assert seen.has(str(folder / "cat"))


def test_a_link_is_there_as_long_as_what_it_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, target = tmp_path / "folder", tmp_path / "target"
    folder.mkdir()
    target.touch()
    (folder / "link").symlink_to(target)
    old(folder)
    seen = Presence()
    assert seen.has(str(folder / "link"))
    target.unlink()
    monkeypatch.setattr(presence, "LINK_SECONDS", 0.0)
    assert seen.look()
    assert not seen.has(str(folder / "link"))
