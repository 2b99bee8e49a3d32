"""Files and folders that would cost memory or time where only a length was wanted, and names that stop a reader."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from invokeai_daemon.errors import UnreadableModel, UnsafeModel
from invokeai_daemon.models.configs import read_config
from invokeai_daemon.models.formats.globals import kind_of
from invokeai_daemon.models.header import read_header
from invokeai_daemon.models.settled import proof
from invokeai_daemon.models.units import entered
from invokeai_daemon.models.words import said_beside
from tests.models.build import (
    Entry,
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

#: A list that holds the one before twice, sixty times over: to write it out would take for ever.
DOUBLING = b"]q\0" + b"".join(b"]h%cah%caq%c" % (level, level, level + 1) for level in range(60))
#: A whole number of 80,000 bytes, which Python does not write out.
HUGE = b"\x8b" + struct.pack("<i", 80_000) + b"\x7f" * 80_000
MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
TENSORS = dictionary({"a": tensor("0", (2,), legacy=True)})
STORAGES = {"0": (2, bytes(8))}


@pytest.mark.parametrize("keys", [b"](" + DOUBLING + b"e", b"](" + HUGE + b"e", b"](NNe"])
def test_keys_of_storages_that_are_no_names_are_not_written_out(keys: bytes, tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    path.write_bytes(legacy_file(TENSORS, STORAGES, keys=keys))
    with pytest.raises(UnreadableModel, match="the list of its storages"):
        read_header(path)


@pytest.mark.parametrize("version", [DOUBLING, HUGE])
def test_a_version_that_is_no_small_number_is_not_written_out(version: bytes, tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    path.write_bytes(b"".join(map(pickle_of, (MAGIC, version, b"}"))))
    with pytest.raises(UnreadableModel, match="a torch file of the unknown version"):
        read_header(path)


def test_the_name_of_a_global_has_an_end(tmp_path: Path) -> None:
    value = b"c" + b"a." * 100_000 + b"a\nB\n0" + dictionary({"a": tensor("0", (2,))})
    path = write_zip(tmp_path / "long.pt", torch_entries(pickle_of(value), {"0": 8}))
    with pytest.raises(UnreadableModel, match="the name of a global has 200,002 characters"):
        read_header(path)


@pytest.mark.parametrize(
    "name", ["requests.api.get", "psutil.Popen", "cffi.FFI", "jinja2.Template", "numexpr.evaluate"]
)
def test_packages_that_reach_out_are_no_leftovers_of_training(name: str) -> None:
    assert kind_of(*name.rsplit(".", 1)) == "code"


def test_a_second_pickle_under_another_ending_is_refused(tmp_path: Path) -> None:
    entries = torch_entries(pickle_of(dictionary({"a": tensor("0", (2,))})), {"0": 8})
    for name in ("archive/DATA.PKL", "archive/other.pickle"):
        path = write_zip(tmp_path / "two.pt", [*entries, Entry(name, b"cos\nsystem\n.")])
        with pytest.raises((UnreadableModel, UnsafeModel), match="out of place"):
            read_header(path)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32-le"])
def test_a_header_is_utf_8_as_the_format_wants_it(encoding: str, tmp_path: Path) -> None:
    text = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
    path = write_raw_safetensors(tmp_path / "a.safetensors", text.encode(encoding), 8)
    with pytest.raises(UnreadableModel, match="not proper JSON"):
        read_header(path)


def _gguf(path: Path) -> None:
    path.write_bytes(
        gguf_file([gguf_tensor("a", (2,), 0, 0)], [gguf_text(f"k{i}", "x" * 10**6) for i in range(30)], 32)
    )


def _directory(path: Path) -> None:
    write_zip(path, [Entry(f"archive/{number:05}{'n' * 60_000}") for number in range(300)])


def _offsets(path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    write_raw_safetensors(path, header + b'"data_offsets":[0,8]' * 200_000, 8)


@pytest.mark.parametrize("write", [_gguf, _directory, _offsets])
def test_proving_that_a_file_is_complete_takes_the_daemon_little_memory(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "large"
    write(path)
    tracemalloc.start()
    proof(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * 1024 * 1024


def test_a_config_of_many_values_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'{"a":[' + b"[]," * 300_000 + b"1]}")
    with pytest.raises(UnreadableModel, match="more than 200,000 values"):
        read_config(path)


def test_a_shard_that_no_file_can_be_called_is_one_that_has_not_come(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps({"unet": ["diffusers", "UNet2DConditionModel"]}))
    (tmp_path / "unet/config.json").write_text("{}")
    index = tmp_path / "unet/model.safetensors.index.json"
    for name in ("x" * 300, "a\0b", "\ud800"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        assert proof(tmp_path).state == "incomplete"


def test_a_pipe_in_the_place_of_a_hubs_note_holds_nobody_up(tmp_path: Path) -> None:
    snapshots = tmp_path / "models--owner--name/snapshots"
    (snapshots / "abc").mkdir(parents=True)
    (snapshots.parent / "refs").mkdir()
    os.mkfifo(snapshots.parent / "refs/main")
    assert entered(snapshots, ["abc"]) == ["abc"]


@pytest.mark.parametrize("said", [{"description": "x" * 100_000}, {"activation text": ",".join(["a"] * 50_000)}])
def test_what_stands_beside_a_model_cannot_fill_the_registry(said: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "cat.json"
    path.write_text(json.dumps({"notes": "short", **said}))
    assert said_beside(path) == {}
    path.write_text(json.dumps({"notes": "short"}))
    assert said_beside(path)["description"] == "short"
