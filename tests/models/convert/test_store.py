"""A converted folder appears whole or not at all; what is there already is kept, and used again where it is equal."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from invokeai_daemon.errors import DiskFull, IncompleteModel, UnreadableModel
from invokeai_daemon.models.convert import convert_model, folder_name, is_complete, read_marker, store
from invokeai_daemon.models.convert.conversion import MARKER
from invokeai_daemon.models.header import read_header
from invokeai_daemon.root import Root
from tests.models.convert import small
from tests.models.convert.small import SD1


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return small.write(tmp_path / "cat.safetensors")


def converted(source: Path, root: Root, name: str = "cat") -> Path:
    return convert_model(read_header(source), SD1, root, name)


def left_behind(root: Root) -> list[str]:
    return [path.name for path in root.models.rglob(".tmp-*")]


def test_the_folder_says_where_it_came_from(source: Path, root: Root) -> None:
    folder = converted(source, root)
    assert folder == root.models / "sd-1/main/cat"
    marker = read_marker(folder)
    assert marker is not None
    assert marker["source"] == str(source)
    assert marker["size"] == source.stat().st_size
    assert marker["hash"].startswith("blake3:")
    assert len(marker["hash"]) == len("blake3:") + 64
    assert marker["files"]["unet/diffusion_pytorch_model.safetensors"] > 0
    assert is_complete(folder)
    assert not left_behind(root)


def test_the_same_content_is_not_converted_twice_whatever_its_name(source: Path, root: Root, tmp_path: Path) -> None:
    first = converted(source, root)
    again = Path(shutil.copy(source, tmp_path / "dog.safetensors"))
    assert converted(again, root, "dog") == first
    assert [folder.name for folder in first.parent.iterdir()] == ["cat"]


def test_other_content_of_the_same_name_gets_a_number(source: Path, root: Root, tmp_path: Path) -> None:
    first = converted(source, root)
    other = small.write(tmp_path / "other.safetensors", seed=1)
    assert other.stat().st_size == source.stat().st_size
    assert converted(other, root) == first.with_name("cat-2")
    assert converted(small.write(tmp_path / "third.safetensors", seed=2), root) == first.with_name("cat-3")


def test_a_folder_of_the_user_s_own_is_left_alone(source: Path, root: Root) -> None:
    (root.models / "sd-1/main/cat").mkdir(parents=True)
    (root.models / "sd-1/main/cat/mine.txt").write_text("mine")
    assert converted(source, root).name == "cat-2"
    assert [path.name for path in (root.models / "sd-1/main/cat").iterdir()] == ["mine.txt"]


def test_a_folder_that_lost_a_file_is_not_used_again(source: Path, root: Root) -> None:
    folder = converted(source, root)
    (folder / "vae/config.json").unlink()
    assert not is_complete(folder)
    assert converted(source, root) == folder.with_name("cat-2")


def test_another_prediction_type_makes_another_folder(source: Path, root: Root) -> None:
    folder = converted(source, root)
    other = convert_model(read_header(source), replace(SD1, prediction_type="v_prediction"), root, "cat")
    assert other == folder.with_name("cat-2")


def test_a_folder_of_an_older_converter_is_not_used_again(
    source: Path, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted(source, root)
    monkeypatch.setattr(store, "CONVERTER", store.CONVERTER + 1)
    assert converted(source, root).name == "cat-2"


def test_an_incomplete_model_leaves_nothing(tmp_path: Path, root: Root) -> None:
    source = small.write(tmp_path / "cat.safetensors", small.tensors_of((small.UNET, small.CLIP)))
    with pytest.raises(IncompleteModel):
        converted(source, root)
    assert not list(root.models.rglob("*"))


def test_a_disk_that_fails_half_way_leaves_nothing(source: Path, root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[object] = []

    def full_after_the_first(*where: int) -> int:
        if pieces:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        pieces.append(where)
        return 1

    monkeypatch.setattr(os, "copy_file_range", full_after_the_first)
    with pytest.raises(OSError, match="No space left"):
        converted(source, root)
    assert not list((root.models / "sd-1/main").iterdir())


def test_a_disk_without_room_is_said_before_anything_is_written(
    source: Path, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SPARE_BYTES", 1 << 60)
    with pytest.raises(DiskFull, match=r"needs .* GB in .*, and .* GB are free"):
        converted(source, root)
    assert not list((root.models / "sd-1/main").iterdir())


def test_a_copy_that_will_outlive_its_source_is_read_back_and_compared(source: Path, root: Root) -> None:
    folder = convert_model(read_header(source), SD1, root, "cat", verify=True)
    damaged = folder / "vae/diffusion_pytorch_model.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert converted(source, root) == folder
    with pytest.raises(UnreadableModel, match=r"vae/.*: .* is not what .*cat\.safetensors holds"):
        convert_model(read_header(source), SD1, root, "cat", verify=True)


def test_a_file_that_changes_while_it_is_converted_is_not_taken(source: Path, root: Root) -> None:
    def touch(done: int, of: int) -> None:
        os.utime(source)

    with pytest.raises(UnreadableModel, match="changed while it was converted"):
        convert_model(read_header(source), SD1, root, "cat", touch)
    assert not list((root.models / "sd-1/main").iterdir())


def test_what_a_crash_left_is_removed_and_what_another_importer_works_on_is_not(source: Path, root: Root) -> None:
    shelf = root.models / "sd-1/main"
    crashed, busy = shelf / ".tmp-1-aa-dog", shelf / ".tmp-2-bb-bird"
    for folder in (crashed, busy):
        (folder / "unet").mkdir(parents=True)
    descriptor = os.open(busy, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        converted(source, root)
    finally:
        os.close(descriptor)
    assert sorted(path.name for path in shelf.iterdir()) == [busy.name, "cat"]


def test_files_can_be_read_by_whom_the_user_s_mask_allows(source: Path, root: Root) -> None:
    folder = converted(source, root)
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert len(modes) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Deliberate v2.1", "Deliberate-v2.1"),
        ("../../etc/passwd", "etc-passwd"),
        (".hidden", "hidden"),
        ("a\nb\x1b[31m", "a-b-31m"),
        ("猫", "猫"),
        ("...", "model"),
        ("", "model"),
        ("é" * 200, "é" * 50),
    ],
)
def test_any_name_makes_a_harmless_folder_name(name: str, expected: str) -> None:
    assert folder_name(name) == expected


def test_a_damaged_marker_is_no_marker(tmp_path: Path) -> None:
    for content in ("", "{", "[]", json.dumps("text")):
        (tmp_path / MARKER).write_text(content)
        assert read_marker(tmp_path) is None
        assert not is_complete(tmp_path)
