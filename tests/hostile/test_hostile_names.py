"""Tricks with the file system, dropped into autoimport/ of the real intake: nothing blocks, only files are opened, each
has its verdict, and whole models under odd names are models all the same.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.header import read_header
from invokeai_daemon.models.settled import proof
from tests.daemon.bench import QUIET, Bench, Make
from tests.models.build import call, dictionary, pickle_of, text, torch_entries, write_zip
from tests.models.convert import small

ODD_NAMES = {
    "line break": "a\nb",
    "colours": "\x1b[31mred",
    "right to left": "exe\u202esrotnesefas",
    "option": "-rf",
    "broken UTF-8": "caf\udce9",
    "decomposed": "cafe\u0301",
    "blanks": "  a  b ",
    "quotes": "a'b\"c`d$(touch x);e&f|g",
    "null": "null",
    "a number": "1e3",
    "markup": "<script>alert(1)</script>",
    "stars": "*?[a]",
    "long": "x" * 243,
}


class Readers:
    """Whether anybody opens a pipe for reading: then it can be opened for writing without waiting."""

    def __init__(self, pipe: Path) -> None:
        self.pipe, self.seen, self._stop = pipe, 0, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._stop.wait(0.0002):
            try:
                os.close(os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK))
                self.seen += 1
            except OSError as error:
                assert error.errno == errno.ENXIO

    def __enter__(self) -> Readers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_the_watch_on_a_pipe_sees_a_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Readers(tmp_path / "pipe") as readers:
        descriptor = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        while not readers.seen:
            pass
        os.close(descriptor)


def _device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root can make devices")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket must be short
        try:
            listening.bind(path.name)
        finally:
            os.chdir(here)


def _loop(path: Path) -> None:
    other = path.with_name("other.safetensors")
    path.symlink_to(other.name)
    other.symlink_to(path.name)


TRICKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "a pipe|not a regular file"),
    "link to itself": (lambda path: path.symlink_to(path.name), "leads back to itself|symbolic links"),
    "link in a loop": (_loop, "leads back to itself|symbolic links"),
    "link to nothing": (lambda path: path.symlink_to("gone"), "not there|No such file"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "a device|not a regular file"),
    "link to a terminal": (lambda path: path.symlink_to("/dev/tty"), "a device|not a regular file|No such"),
    "link to a process": (lambda path: path.symlink_to("/proc/self/mem"), "empty|cannot be read"),
    "device": (_device, "a device|not a regular file"),
    "socket": (_socket, "a socket|not a regular file"),
}


@pytest.fixture
def trick(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "trick.safetensors"
    TRICKS[request.param][0](path)
    yield path


@pytest.mark.parametrize("trick", TRICKS, indirect=True)
def test_what_is_no_file_is_refused_without_waiting(trick: Path) -> None:
    with pytest.raises(UnreadableModel):
        read_header(trick)
    assert proof(trick).state != "complete"


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "link.safetensors").symlink_to("pipe.safetensors")
    with Readers(tmp_path / "pipe.safetensors") as readers:
        for _ in range(200):
            for name in ("pipe", "link"):
                with pytest.raises(UnreadableModel, match="not a regular file"):
                    read_header(tmp_path / f"{name}.safetensors")
                proof(tmp_path / f"{name}.safetensors")
    assert readers.seen == 0


def test_the_daemon_gives_a_verdict_on_what_is_no_file_and_goes_on(bench: Bench) -> None:
    for seed, (name, (make, _)) in enumerate(TRICKS.items()):
        folder = bench.root.autoimport / "main" / name
        folder.mkdir()
        make(folder / f"{name}.safetensors")
        small.write(folder / "good.safetensors", seed=seed)
    bench.scan()
    bench.settle(QUIET)
    bench.settle(5 * QUIET)
    found = {entry.source: entry for entry in bench.registry.models()}
    for name, (_, reason) in TRICKS.items():
        folder = bench.root.autoimport / "main" / name
        entry = found[str(folder / f"{name}.safetensors")]
        assert entry.status == "rejected"
        assert re.search(reason, entry.reason), entry.reason
        assert os.path.lexists(folder / f"{name}.safetensors")
        assert found[str(folder / "good.safetensors")].status == "ok"


def test_the_daemon_never_opens_a_pipe(bench: Bench) -> None:
    folder = bench.root.autoimport / "main"
    os.mkfifo(folder / "pipe.safetensors")
    os.mkfifo(folder / "pipe.toml")
    small.write(folder / "good.safetensors")
    with Readers(folder / "pipe.safetensors") as readers:
        for _ in range(5):
            bench.scan()
            bench.seal(folder / "pipe.safetensors")
            bench.settle(QUIET)
    assert readers.seen == 0
    assert bench.entry("good").status == "ok"


def _is_possible(path: Path) -> bool:
    try:
        path.write_bytes(b"")
    except OSError:
        return False
    path.unlink()
    return True


def test_whole_models_under_odd_names_are_models_and_their_entries_survive_a_restart(bench: Bench, make: Make) -> None:
    folder = bench.root.autoimport / "main"
    whole = small.write(folder / "whole.safetensors").read_bytes()
    (folder / "whole.safetensors").unlink()
    made = {}
    for place, what in enumerate(("line break", "right to left", "option", "broken UTF-8", "quotes", "null", "long")):
        name = ODD_NAMES[what]
        path = folder / f"{name}.safetensors"
        if _is_possible(path):
            # Each differs in a byte of its last tensor, since the same content is one model.
            path.write_bytes(whole[:-1] + bytes([place]))
            made[what] = path
    bench.scan()
    bench.settle(QUIET)
    bench.settle(5 * QUIET)
    for entries in (bench.registry.models(), make().registry.models()):
        found = {entry.source: entry for entry in entries}
        for what, path in made.items():
            entry = found.get(str(path))
            assert entry is not None, (what, sorted(found))
            assert entry.status == "ok", (what, entry.reason)
            assert entry.name.isprintable()
            assert ".." not in entry.path and Path(entry.path).is_relative_to(bench.root.models)
    assert not list(bench.root.path.rglob("x;e*")) and not (Path.cwd() / "x").exists()


def test_hostile_files_under_odd_names_have_their_verdict_and_no_name_acts(bench: Bench) -> None:
    folder, canary = bench.root.autoimport / "main", bench.root.path / "canary"
    made = []
    for name in ODD_NAMES.values():
        path = folder / f"{name}.ckpt"
        if _is_possible(path):
            payload = dictionary({"w": call("posix.mkdir", text(str(canary)))})
            made.append(write_zip(path, torch_entries(pickle_of(payload), {})))
    bench.scan()
    bench.settle(QUIET)
    bench.settle(5 * QUIET)
    found = {entry.source: entry for entry in bench.registry.models()}
    for path in made:
        entry = found[str(path)]
        assert entry.status == "rejected"
        assert "posix.mkdir" in entry.reason
        assert entry.reason.isprintable() and entry.name.isprintable()
    assert not canary.exists()


def test_a_folder_called_like_a_file_is_looked_into(bench: Bench) -> None:
    folder = bench.root.autoimport / "main/x.safetensors"
    folder.mkdir()
    small.write(folder / "inside.safetensors")
    bench.scan()
    bench.settle(QUIET)
    bench.settle(5 * QUIET)
    assert bench.entry("inside").status == "ok"
    with pytest.raises(UnreadableModel, match="not a regular file"):
        read_header(folder)


def test_hard_links_are_read_and_left_as_they_are(bench: Bench, tmp_path: Path) -> None:
    theirs = small.write(tmp_path / "theirs.safetensors")
    before = theirs.read_bytes()
    os.link(theirs, bench.root.autoimport / "main/cat.safetensors")
    bench.scan()
    bench.settle(QUIET)
    bench.settle(5 * QUIET)
    assert bench.entry("cat").status == "ok"
    assert theirs.read_bytes() == before
    assert theirs.stat().st_nlink == 2
