"""Files assembled from ranges of another one: right to the byte, whichever way the system lets them be copied."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import blake3
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.convert import copying
from invokeai_daemon.models.convert.copying import BLOCK, content_hash
from invokeai_daemon.models.convert.writing import Run, safetensors_header, steps, write_safetensors
from invokeai_daemon.models.header import read_header


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def copied(source: Path, target: Path, runs: list[Run]) -> list[int]:
    told: list[int] = []
    with opened(source) as descriptor:
        write_safetensors(descriptor, target, runs, told.append)
    return told


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three tensors, one of them larger than a piece."""
    values = np.random.default_rng(0)
    tensors = {
        "a": values.standard_normal((3, 5), dtype=np.float32),
        "large": values.standard_normal((copying.BUFFER,), dtype=np.float32),
        "z": values.standard_normal((7,), dtype=np.float32),
    }
    save_file(tensors, tmp_path / "source.safetensors")
    return tmp_path / "source.safetensors"


def runs_of(source: Path) -> list[Run]:
    tensors = sorted(read_header(source).tensors.items(), key=lambda item: item[1].file_offset)
    return [
        Run(f"new.{name}", info.dtype, info.shape, ((info.file_offset, info.nbytes),), info.dtype)
        for name, info in tensors
    ]


def half(name: str, offset: int) -> Run:
    return Run(name, "F16", (4,), ((offset, 8),), "F16")


def in_the_kernel(patch: pytest.MonkeyPatch) -> None:
    pass


def in_small_pieces(patch: pytest.MonkeyPatch) -> None:
    kernel = os.copy_file_range
    patch.setattr(os, "copy_file_range", lambda *where: kernel(where[0], where[1], min(where[2], 1000), *where[3:]))


def refused_by_the_kernel(patch: pytest.MonkeyPatch) -> None:
    def refuse(*where: int) -> int:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    patch.setattr(os, "copy_file_range", refuse)


def on_a_system_without_the_call(patch: pytest.MonkeyPatch) -> None:
    patch.delattr(os, "copy_file_range")


def given_nothing_by_the_kernel(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "copy_file_range", lambda *where: 0)


@pytest.mark.parametrize(
    "way",
    [in_the_kernel, in_small_pieces, refused_by_the_kernel, on_a_system_without_the_call, given_nothing_by_the_kernel],
)
def test_the_new_file_holds_the_same_values(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: object
) -> None:
    way(monkeypatch)  # type: ignore[operator]
    told = copied(source, tmp_path / "new.safetensors", runs_of(source))
    before, after = load_file(source), load_file(tmp_path / "new.safetensors")
    assert after.keys() == {f"new.{name}" for name in before}
    for name, values in before.items():
        np.testing.assert_array_equal(after[f"new.{name}"], values)
    assert sum(told) == sum(values.nbytes for values in before.values())


def test_a_full_disk_is_not_taken_for_a_system_that_cannot_copy(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*where: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError, match="No space left"):
        copied(source, tmp_path / "new.safetensors", runs_of(source))


def test_a_source_that_ends_early_is_noticed(source: Path, tmp_path: Path) -> None:
    runs = runs_of(source)
    os.truncate(source, source.stat().st_size - 10)
    with pytest.raises(UnreadableModel, match="ended at byte"):
        copied(source, tmp_path / "new.safetensors", runs)


def test_an_existing_file_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    (tmp_path / "new.safetensors").write_text("mine")
    with pytest.raises(FileExistsError):
        copied(source, tmp_path / "new.safetensors", runs_of(source))


def test_neighbours_are_copied_in_one_go() -> None:
    runs = [half("a", 100), half("b", 108), half("c", 200)]
    assert list(steps(runs)) == [(100, 16), (200, 8)]


@pytest.mark.parametrize("offset", [8, 4096, 1_234_568])
def test_the_first_tensor_lies_in_its_block_as_in_the_source_so_that_blocks_can_be_shared(offset: int) -> None:
    header = safetensors_header([half("a", offset)])
    assert len(header) % BLOCK == offset % BLOCK


def test_a_source_off_the_grid_does_not_pull_the_new_file_off_it() -> None:
    assert len(safetensors_header([half("a", 1001)])) % 8 == 0


def test_the_hash_is_that_of_all_bytes(source: Path) -> None:
    with opened(source) as descriptor:
        assert content_hash(descriptor) == f"blake3:{blake3.blake3(source.read_bytes()).hexdigest()}"


def test_hashing_stops_when_it_is_told_to(source: Path) -> None:
    stop = threading.Event()
    stop.set()
    with opened(source) as descriptor, pytest.raises(InterruptedError):
        content_hash(descriptor, stop)
