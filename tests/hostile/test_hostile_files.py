"""Every hostile file is refused by the real importer with its reason, quickly, in little memory, and runs nothing."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from invokeai_daemon.errors import UnreadableModel, UnsafeModel
from invokeai_daemon.models.header import read_header
from invokeai_daemon.models.settled import proof
from invokeai_daemon.root import Root
from invokeai_daemon.workers.ask import Importer
from tests.hostile import gguf_kinds, other_kinds, safetensors_kinds, torch_kinds
from tests.hostile.kinds import Kind
from tests.models.build import (
    dictionary,
    gguf_file,
    gguf_tensor,
    gguf_text,
    legacy_file,
    pickle_of,
    tensor,
    torch_entries,
    write_raw_safetensors,
    write_zip,
)
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


def ends_of(kind: Kind) -> tuple[str, ...]:
    """Each kind under every name; of the many that differ in one global only, each under another."""
    return ENDS if "beside the weights" not in kind.name else (ENDS[len(kind.name) % len(ENDS)],)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_hostile_file_is_refused_under_every_name(watched: Watched, tmp_path: Path, kind: Kind) -> None:
    canary, made = tmp_path / "canary", tmp_path / "made"
    kind.write(made, canary)
    for end in ends_of(kind):
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


def _whole(path: Path) -> dict[str, bytes]:
    """A small whole file of each format."""
    header = b'{"w":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},'
    header += b'"v":{"dtype":"I8","shape":[4],"data_offsets":[12,16]}}'
    value = dictionary({"w": tensor("0", (2, 3)), "v": tensor("1", (4,))})
    old = dictionary({"w": tensor("0", (2, 3), legacy=True), "v": tensor("1", (4,), legacy=True)})
    return {
        "safetensors": write_raw_safetensors(path, header, 16).read_bytes(),
        "torch": write_zip(path, torch_entries(pickle_of(value), {"0": bytes(24), "1": bytes(16)})).read_bytes(),
        "old torch": legacy_file(old, {"0": (6, bytes(24)), "1": (4, bytes(16))}),
        "gguf": gguf_file(
            [gguf_tensor("w", (3, 2), 1, 0), gguf_tensor("v", (4,), 24, 32)], [gguf_text("a", "b")], data=36
        ),
    }


def _bent(raw: bytes, source: random.Random) -> bytes:
    """With bits flipped, cut off, pieces copied over others, or numbers made huge."""
    bent = bytearray(raw)
    for _ in range(source.randint(1, 4)):
        place, length = source.randrange(len(bent)), source.randint(1, 16)
        match source.randrange(5):
            case 0:
                bent[place] ^= 1 << source.randrange(8)
            case 1:
                del bent[place:]
                bent += b"\0"
            case 2:
                start = source.randrange(len(bent))
                bent[place : place + length] = bent[start : start + length]
            case 3:
                bent[place : place + 8] = source.choice((b"\xff" * 8, bytes(8), b"\0" * 7 + b"\x80", b"\1" + bytes(7)))
            case 4:
                bent[place:place] = source.randbytes(length)
    return bytes(bent)


@pytest.mark.parametrize("form", ["safetensors", "torch", "old torch", "gguf"])
def test_a_file_bent_at_random_gives_tensors_inside_it_or_a_reason(tmp_path: Path, form: str) -> None:
    path, source = tmp_path / "x", random.Random(form)
    whole = _whole(path)[form]
    path.write_bytes(whole)
    assert set(read_header(path).tensors) == {"w", "v"}
    refused = 0
    for _ in range(800):
        bent = _bent(whole, source)
        path.write_bytes(bent)
        proof(path)
        try:
            header = read_header(path)
        except (UnreadableModel, UnsafeModel) as error:
            refused += 1
            assert str(error).startswith(str(path))
        else:
            assert all(info.file_offset + info.nbytes <= len(bent) for info in header.tensors.values())
            assert all(info.file_offset >= 0 or info.reason for info in header.tensors.values())
    assert refused > 250
