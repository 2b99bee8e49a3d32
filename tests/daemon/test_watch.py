"""Hints about folders, from the kernel or from a timer."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invokeai_daemon.daemon.watch import Hints, Watch, _Inotify, file_system_of, is_silent


class Waker:
    """Counts wakes and lets a test wait for hints."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.watch = Watch(self.event.set, poll_seconds=5.0)
        self.seen = Hints()

    def until(self, condition: Callable[[Hints], bool]) -> Hints:
        end = time.monotonic() + 30
        while not condition(self.seen):
            assert time.monotonic() < end, f"only {self.seen}"
            self.event.wait(0.2)
            self.event.clear()
            taken = self.watch.take(0.0)
            for path, sealed in taken.touched.items():
                self.seen.touched[path] = sealed or self.seen.touched.get(path, False)
            self.seen.scan |= taken.scan
        return self.seen

    def forget(self) -> None:
        self.watch.take(0.0)
        self.seen = Hints()


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.watch.close()


@pytest.fixture
def folder(waker: Waker, tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    waker.watch.add(folder, 0.0)
    waker.until(lambda seen: folder in seen.scan)
    waker.forget()
    return folder


def test_a_file_is_sealed_when_its_writer_closes_it(waker: Waker, folder: Path) -> None:
    path = folder / "cat.toml"
    with path.open("w") as file:
        file.write("x")
        file.flush()
        waker.until(lambda seen: path in seen.touched)
        assert not waker.seen.touched[path]
    waker.until(lambda seen: seen.touched[path])


def test_a_rename_in_is_sealed(waker: Waker, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "aside").write_text("x")
    (tmp_path / "aside").rename(folder / "cat.toml")
    waker.until(lambda seen: seen.touched.get(folder / "cat.toml", False))


def test_a_hint_comes_at_once_also_right_after_something_left(waker: Waker, folder: Path, tmp_path: Path) -> None:
    for number in range(5):
        (folder / "old").touch()
        (folder / "old").rename(tmp_path / "gone")
        (tmp_path / "aside").write_text("x")
        begin = time.monotonic()
        (tmp_path / "aside").rename(folder / f"{number}.toml")
        waker.until(lambda seen, number=number: folder / f"{number}.toml" in seen.touched)  # type: ignore[misc]
    assert time.monotonic() - begin < 0.4


def test_removals_are_told_only_where_they_matter(waker: Waker, folder: Path, tmp_path: Path) -> None:
    queue = tmp_path / "queued"
    queue.mkdir()
    waker.watch.add(queue, 0.0, removals=True)
    for place in (folder, queue):
        (place / "a.toml").touch()
    waker.until(lambda seen: seen.touched.keys() >= {folder / "a.toml", queue / "a.toml"})
    waker.forget()
    for place in (folder, queue):
        (place / "a.toml").unlink()
    (folder / "a.part").touch()
    (folder / "a.part").unlink()
    waker.until(lambda seen: queue / "a.toml" in seen.touched and folder / "a.part" in seen.touched)
    assert folder / "a.toml" not in waker.seen.touched


def test_hidden_names_wake_nobody(waker: Waker, folder: Path) -> None:
    (folder / ".tmp-1-x").touch()
    (folder / "cat.toml").touch()
    waker.until(lambda seen: folder / "cat.toml" in seen.touched)
    assert folder / ".tmp-1-x" not in waker.seen.touched


def test_names_that_are_no_text_are_told(waker: Waker, folder: Path) -> None:
    path = os.path.join(os.fsencode(folder), b"bad\xff.toml")  # noqa: PTH118 (bytes)
    with open(path, "w"):  # noqa: PTH123 (bytes)
        pass
    waker.until(lambda seen: Path(os.fsdecode(path)) in seen.touched)


def test_a_folder_that_is_replaced_is_watched_again(waker: Waker, folder: Path) -> None:
    folder.rmdir()
    folder.mkdir()
    waker.until(lambda seen: folder in seen.scan)
    waker.watch.check()
    waker.forget()
    (folder / "cat.toml").touch()
    waker.until(lambda seen: folder / "cat.toml" in seen.touched)


def test_a_folder_that_is_moved_away_and_made_anew_is_watched_again(waker: Waker, folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "old")
    folder.mkdir()
    waker.until(lambda seen: folder in seen.scan)
    waker.watch.check()
    waker.forget()
    (tmp_path / "old" / "wrong").touch()
    (folder / "cat.toml").touch()
    waker.until(lambda seen: folder / "cat.toml" in seen.touched)
    assert folder / "wrong" not in waker.seen.touched


def test_lost_hints_become_scans(waker: Waker, folder: Path) -> None:
    assert isinstance(waker.watch._kernel, _Inotify)
    waker.watch._kernel.on_queue_overflow()
    waker.until(lambda seen: folder in seen.scan)


def test_too_many_hints_become_a_scan(waker: Waker, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invokeai_daemon.daemon.watch.MOST_HINTS", 10)
    for number in range(20):
        waker.watch.touch(folder, f"{number}.toml", sealed=True, removed=False)
    hints = waker.watch.take(0.0)
    assert len(hints.touched) == 10
    assert folder in hints.scan


def test_without_events_folders_are_polled(tmp_path: Path) -> None:
    watch = Watch(lambda: None, poll_seconds=5.0, force_polling=True)
    watch.add(tmp_path, 0.0)
    assert watch.mode(tmp_path) == "poll"
    assert not watch.take(4.9).scan
    assert watch.next_time() == 5.0
    assert watch.take(5.0).scan == {tmp_path}
    assert watch.next_time() == 10.0


def test_where_the_kernel_refuses_a_folder_is_polled(
    waker: Waker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> int:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(waker.watch._kernel, "watch", refuse)
    waker.watch.add(tmp_path, 0.0)
    assert waker.watch.mode(tmp_path) == "poll"


def test_a_tree_is_polled_when_a_part_of_it_is(waker: Waker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nas").mkdir()
    waker.watch.add(tmp_path, 0.0)
    assert waker.watch.mode(tmp_path) == "inotify"
    monkeypatch.setattr("invokeai_daemon.daemon.watch.is_silent", lambda path: True)
    waker.watch.add(tmp_path / "nas", 0.0, top=tmp_path)
    assert waker.watch.mode(tmp_path) == "poll"
    assert waker.watch.take(5.0).scan == {tmp_path}


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/x /srv/nas nfs4 rw 0 0
tmpfs /srv/nas/fast tmpfs rw 0 0
me@host: /srv/ss\\040h fuse.sshfs rw 0 0
//win/share /srv/win cifs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind", "silent"),
    [
        ("/home/x", "ext4", False),
        ("/srv/nas/a", "nfs4", True),
        ("/srv/nas/fast/a", "tmpfs", False),
        ("/srv/ss h/a", "fuse.sshfs", True),
        ("/srv/win", "cifs", True),
        ("/srv/winner", "ext4", False),
    ],
)
def test_the_mount_table_tells_where_events_come(tmp_path: Path, path: str, kind: str, silent: bool) -> None:
    table = tmp_path / "mounts"
    table.write_text(MOUNTS)
    assert file_system_of(Path(path), str(table)) == kind
    assert is_silent(Path(path), str(table)) == silent


def test_without_a_mount_table_events_are_trusted(tmp_path: Path) -> None:
    assert not is_silent(tmp_path, str(tmp_path / "none"))
