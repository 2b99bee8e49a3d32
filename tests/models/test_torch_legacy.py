"""Torch files before version 1.6: what torch writes in that format is found byte for byte, and no lie is believed."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from invokeai_daemon.errors import UnreadableModel, UnsafeModel
from invokeai_daemon.models.header import read_header
from tests.models.build import call, dictionary, integer, legacy_file, pickle_of, storage, tensor, text, tuple_


def saved(path: Path, value: Any) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path


def test_what_torch_saves_in_the_old_format_is_found_byte_for_byte(tmp_path: Path) -> None:
    base = torch.randn(6, 8)
    tensors = {
        "half": base.half(),
        "brain": base.bfloat16(),
        "double": base.double(),
        "whole": torch.arange(5),
        "small": torch.arange(5, dtype=torch.uint8),
        "logic": base > 0,
        "rows": base[2:4],
        "number": torch.tensor(3.5),
        "nothing": torch.zeros(0, 4),
        "trained": torch.nn.Parameter(base.clone()),
        "tied": base,
    }
    ordered = collections.OrderedDict(tensors)
    for name, value in {
        "x.ckpt": {"state_dict": tensors, "global_step": 5},
        "x.pt": ordered,
        "x.bin": {"state_dict": ordered, "optimizer": {"state": {0: {"moment": torch.randn(3)}}}},
    }.items():
        path = saved(tmp_path / name, value)
        header = read_header(path)
        raw = path.read_bytes()
        assert header.format == "torch-legacy"
        assert header.tensors.keys() == tensors.keys()
        for key, info in header.tensors.items():
            found = raw[info.file_offset : info.file_offset + info.nbytes]
            assert found == tensors[key].detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes(), key
            assert info.shape == tuple(tensors[key].shape)
    assert read_header(tmp_path / "x.ckpt").scalars == {"global_step": 5}


def test_an_embedding_in_the_old_format_is_read(tmp_path: Path) -> None:
    value = {"string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.randn(2, 768))}), "name": "cat"}
    assert read_header(saved(tmp_path / "x.pt", value)).tensors["string_to_param.*"].shape == (2, 768)


def test_a_pickle_longer_than_the_first_look_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"notes": "x" * 3_000_000, "w": torch.ones(2)})
    header = read_header(path)
    assert list(header.tensors) == ["w"]
    assert len(header.scalars["notes"]) == 4096  # type: ignore[arg-type]


def test_no_beginning_of_a_file_passes_for_the_whole(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"a": torch.ones(5), "b": torch.ones(7).half()})
    raw = path.read_bytes()
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(UnreadableModel):
            read_header(path)
    path.write_bytes(raw + b"x")
    with pytest.raises(UnreadableModel, match="1 bytes follow its last storage"):
        read_header(path)


def test_a_hand_written_file_is_what_torch_reads(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(legacy_file(dictionary({"w": tensor("0", (2, 3), legacy=True)}), {"0": (6, bytes(24))}))
    assert {name: tuple(value.shape) for name, value in torch.load(path, weights_only=True).items()} == {"w": (2, 3)}
    assert read_header(path).tensors["w"].shape == (2, 3)


def test_a_view_of_a_storage_of_the_oldest_versions_starts_where_it_says(tmp_path: Path) -> None:
    view = tuple_(
        *(text("storage"), b"ctorch\nFloatStorage\n", text("0"), text("cpu"), integer(6)),
        tuple_(text("v"), integer(4), integer(2)),
    )
    w = call("torch._utils._rebuild_tensor", view + b"Q", integer(0), tuple_(integer(2)), tuple_(integer(1)))
    path = tmp_path / "x.pt"
    values = struct.pack("<6f", *range(6))
    path.write_bytes(legacy_file(dictionary({"w": w}), {"0": (6, values)}))
    info = read_header(path).tensors["w"]
    assert path.read_bytes()[info.file_offset :][: info.nbytes] == values[16:]


W = dictionary({"w": tensor("0", (2,), legacy=True)})


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (legacy_file(W, {"0": (3, bytes(12))}), "should have 2 elements and has 3"),
        (legacy_file(W, {"0": (-1, b"")}), "should have 2 elements and has -1"),
        (legacy_file(W, {"0": (2**62, b"")}), "should have 2 elements"),
        (legacy_file(W, {"0": (2, bytes(4))}), "cut off: at least 4 bytes are missing"),
        (legacy_file(W, {"0": (2, bytes(9))}), "1 bytes follow its last storage"),
        (legacy_file(W, {}), "the bytes of 'w' are not in the file"),
        (legacy_file(W, {"0": (2, bytes(8)), "1": (2, bytes(8))}), "the storage '1' belongs to no tensor"),
        (legacy_file(W, {"0": (2, bytes(8))}, keys=b"](" + text("0") + text("0") + b"e"), "list of its storages"),
        (legacy_file(W, {"0": (2, bytes(8))}, keys=b"}"), "list of its storages"),
        (legacy_file(W, {"0": (2, bytes(8))}, version=1002), "the unknown version '1002'"),
        (legacy_file(W, {"0": (2, bytes(8))}, little=False), "big-endian"),
        (legacy_file(b"]", {}), "its pickle is a list"),
        (legacy_file(dictionary({"w": tensor("0", (2**31, 2**31), (0, 0), count=2)}), {"0": (2, bytes(8))}), "unfold"),
        (legacy_file(dictionary({"w": tensor("0", (2**41,), (1,), count=2)}), {"0": (2, bytes(8))}), "cannot be"),
        (legacy_file(W, {"0": (2, bytes(8))})[:30], "malformed or cut off"),
    ],
)
def test_an_old_file_that_lies_is_refused(tmp_path: Path, raw: bytes, why: str) -> None:
    (tmp_path / "x.pt").write_bytes(raw)
    with pytest.raises(UnreadableModel, match=why):
        read_header(tmp_path / "x.pt")


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_code_in_any_of_its_pickles_is_named_and_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payload = call("posix.mkdir", text(str(canary)))
    files = {
        "value": legacy_file(dictionary({"w": payload}), {}),
        "beside": legacy_file(dictionary({"w": tensor("0", (2,), legacy=True), "x": payload}), {"0": (2, bytes(8))}),
        "keys": legacy_file(W, {"0": (2, bytes(8))}, keys=payload),
        "magic": pickle_of(payload),
        "machine": legacy_file(W, {}, machine=payload),
    }
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(UnsafeModel, match=r"the pickle asks for posix\.mkdir"):
            read_header(tmp_path / name)
    saved(tmp_path / "x.pt", {"w": torch.ones(2), "x": Evil(canary)})
    with pytest.raises(UnsafeModel, match=r"the pickle asks for posix\.mkdir"):
        read_header(tmp_path / "x.pt")
    assert not canary.exists()


def test_a_whole_model_of_the_old_format_says_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(UnsafeModel, match=r"torch\.nn\.modules\.linear\.Linear; it is a whole program object"):
        read_header(saved(tmp_path / "x.pt", torch.nn.Linear(2, 2)))


def test_a_tar_file_of_the_first_versions_says_what_it_is(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.pt", "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    with pytest.raises(UnreadableModel, match="a tar archive: torch files before version"):
        read_header(tmp_path / "x.pt")


def test_a_bare_pickle_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(pickle.dumps({"w": [1.0, 2.0]}))
    with pytest.raises(UnreadableModel, match="a bare pickle without tensors"):
        read_header(tmp_path / "x.pt")
    assert sys.byteorder == "little"


def test_storages_of_other_kinds_are_measured_right(tmp_path: Path) -> None:
    """A storage that no weight uses must be stepped over by its own width."""
    content = dictionary({"state_dict": W, "optimizer": storage("a", "torch.DoubleStorage", 3)})
    path = tmp_path / "x.pt"
    path.write_bytes(legacy_file(content, {"a": (3, bytes(24)), "0": (2, b"weights!")}))
    info = read_header(path).tensors["w"]
    assert path.read_bytes()[info.file_offset :][: info.nbytes] == b"weights!"
