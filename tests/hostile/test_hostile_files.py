"""Every hostile file is refused by the real importer with its reason, quickly, in little memory, and runs nothing."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from invokeai_daemon.root import Root
from invokeai_daemon.workers.ask import Importer
from tests.hostile import gguf_kinds, other_kinds, safetensors_kinds, torch_kinds
from tests.hostile.kinds import Kind
from tests.models.convert import small

TABLES = (safetensors_kinds.TABLE, torch_kinds.TABLE, gguf_kinds.TABLE, other_kinds.TABLE)
KINDS = [kind for table in TABLES for kind in table.kinds]
ENDS = (".ckpt", ".pt", ".bin", ".safetensors", ".gguf", ".CKPT", "")
#: Seconds and MiB that one file may cost.
MOST_SECONDS, MOST_MEMORY = 10.0, 500
#: A file that takes longer is not tried under every name: its bytes decide, as with the others.
SLOW = 0.2

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc")  # noqa: PTH110


class Watched:
    """One importer for all files: its limits are low, and it must be the same process in the end."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.importer = Importer(root.path, memory_mb=2048, cpu_seconds=15)
        self.import_(small.write(root.autoimport / "main/good.safetensors"))
        self.first = self.pid

    @property
    def pid(self) -> int:
        assert self.importer._child is not None
        return self.importer._child.pid

    def import_(self, path: Path) -> dict[str, object]:
        return self.importer.ask({"order": "import", "path": str(path), "root": str(self.root.path)}, timeout=60)

    def peak_mb(self) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    root = Root(tmp_path_factory.mktemp("root"))
    root.make()
    watched = Watched(root)
    with watched.importer:
        yield watched


def test_there_are_many_kinds_and_each_has_its_own_name() -> None:
    names = [kind.name for kind in KINDS]
    assert len(set(names)) == len(names) > 200


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_hostile_file_is_refused_under_every_name(watched: Watched, tmp_path: Path, kind: Kind) -> None:
    canary, made = tmp_path / "canary", tmp_path / "made"
    kind.write(made, canary)
    for end in ENDS:
        path = tmp_path / f"x{end}"
        os.link(made, path)
        start = time.monotonic()
        event = watched.import_(path)
        assert time.monotonic() - start < MOST_SECONDS
        assert (event["event"], event["state"]) == ("verdict", kind.state), event
        reason = str(event["reason"])
        assert re.search(kind.reason, reason), reason
        assert reason.isprintable()
        assert len(reason) < 2000
        path.unlink()
        if time.monotonic() - start > SLOW:
            break
    assert not canary.exists()
    assert watched.pid == watched.first, "another importer had to be started"
    assert watched.peak_mb() < MOST_MEMORY


def test_the_importer_still_imports_after_all_of_them(watched: Watched) -> None:
    event = watched.import_(small.write(watched.root.autoimport / "main/after.safetensors"))
    assert event["event"] == "imported", event
    assert watched.pid == watched.first


def test_a_file_that_shrinks_and_grows_while_it_is_read_stops_nothing(watched: Watched, tmp_path: Path) -> None:
    path = small.write(tmp_path / "main.safetensors")
    whole, stop = path.read_bytes(), threading.Event()

    def change() -> None:
        while not stop.is_set():
            for length in (len(whole) // 2, 100, 9, 0):
                os.truncate(path, length)
            path.write_bytes(whole)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        events = [watched.import_(path) for _ in range(20)]
    finally:
        stop.set()
        changing.join()
    assert all(event["event"] in ("imported", "verdict") for event in events)
    assert watched.pid == watched.first
    path.write_bytes(whole)
    assert watched.import_(path)["event"] == "imported"
