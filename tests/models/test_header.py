"""A header tells the keys, shapes and byte ranges of a weight file; broken and disguised files say what they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from invokeai_daemon.errors import UnreadableModel, UnsafeModel
from invokeai_daemon.models.header import check_crcs, crc_watch, opened, read_header
from tests.models.build import (
    Entry,
    call,
    dictionary,
    integer,
    named,
    pickle_of,
    tensor,
    text,
    torch_entries,
    tuple_,
    write_checkpoint,
    write_raw_safetensors,
    write_safetensors,
    write_zip,
)


def described(entry: object) -> bytes:
    return json.dumps(entry).encode()


W = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


# safetensors


def test_a_safetensors_header_gives_absolute_byte_ranges(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.array([7], dtype=np.int64)}
    safetensors.numpy.save_file(arrays, tmp_path / "x.safetensors", {"author": "me"})
    header = read_header(tmp_path / "x.safetensors")
    raw = (tmp_path / "x.safetensors").read_bytes()
    assert (header.format, header.size, header.metadata) == ("safetensors", len(raw), {"author": "me"})
    for name, array in arrays.items():
        info = header.tensors[name]
        assert info.shape == array.shape
        assert raw[info.file_offset : info.file_offset + info.nbytes] == array.tobytes()
    assert (header.tensors["a"].dtype, header.tensors["b"].dtype) == ("F16", "I64")


@pytest.mark.parametrize(
    ("header", "data", "why"),
    [
        (b'{"w": ' + described(W) + b', "w": ' + described(W) + b"}", 8, "the name 'w' occurs twice"),
        (described({"w": W}), 9, "1 bytes follow its last tensor"),
        (described({"w": W, "v": W}), 8, "overlaps another"),
        (described({"w": {**W, "data_offsets": [8, 16]}}), 16, "leaves a hole before it"),
        (described({"w": {**W, "shape": [3]}}), 8, r"has shape \[3\] of F32 but 8 bytes"),
        (described({"w": {**W, "shape": [2**40, 2**40]}}), 8, "has shape"),
        (described({"w": {**W, "shape": [-2]}}), 8, "numbers that cannot be"),
        (described({"w": {**W, "shape": [2.0]}}), 8, "numbers that cannot be"),
        (described({"w": {**W, "shape": [True, 2]}}), 8, "numbers that cannot be"),
        (described({"w": {**W, "shape": [0, 2**61], "data_offsets": [0, 0]}}), 0, "the shape of 'w' cannot be"),
        (described({"w": {**W, "shape": [2, *[1] * 16]}}), 8, "the shape of 'w' cannot be"),
        (described({"w": {**W, "shape": "ab"}}), 8, "numbers that cannot be"),
        (described({"w": {**W, "data_offsets": [0, 8, 9]}}), 8, "not as the format wants it"),
        (described({"w": {**W, "dtype": "F33"}}), 8, "not as the format wants it"),
        (described({"w": {**W, "dtype": ["F32"]}}), 8, "not as the format wants it"),
        (described({"w": 5}), 8, "not as the format wants it"),
        (described({"a\nb": W}), 8, "control characters"),
        (described({"a\0b": W}), 8, "control characters"),
        (described({"a\u202eb": W}), 8, "control characters"),
        (described({"../../etc/x": W}), 8, "leads out of its folder"),
        (described({"/etc/x": W}), 8, "leads out of its folder"),
        (described({"w" * 1001: W}), 8, "has 1,001 characters"),
        (described({"__metadata__": {"a": 1}, "w": W}), 8, "its metadata are not texts"),
        (described({"__metadata__": [], "w": W}), 8, "its metadata are not texts"),
        (b'{"w": NaN}', 8, "NaN is no number"),
        (b'{"w": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 8]}}', 8, "not proper JSON"),
        (b'{"w": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", 8, "not proper JSON"),
        (b'{"w": \xff}', 8, "not proper JSON"),
        (b"{]", 8, "not proper JSON"),
    ],
)
def test_a_broken_safetensors_file_says_what_is_wrong(tmp_path: Path, header: bytes, data: int, why: str) -> None:
    path = write_raw_safetensors(tmp_path / "x.safetensors", header, data)
    with pytest.raises(UnreadableModel, match=why):
        read_header(path)


def test_a_cut_off_safetensors_file_says_how_much_is_missing(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "x.safetensors", {"w": (100, 100)})
    os.truncate(path, path.stat().st_size - 1234)
    with pytest.raises(UnreadableModel, match="cut off: 1,234 of its"):
        read_header(path)


def test_a_header_that_is_itself_cut_off_says_so(tmp_path: Path) -> None:
    path = write_raw_safetensors(tmp_path / "x.safetensors", b'{"w"', 0, length=500)
    with pytest.raises(UnreadableModel, match="the header alone needs 508 bytes and the file has 12"):
        read_header(path)


def test_an_absurd_header_length_is_not_read(tmp_path: Path) -> None:
    path = write_raw_safetensors(tmp_path / "x.safetensors", b"{}", 0, length=2**63)
    with pytest.raises(UnreadableModel, match="not a weight file"):
        read_header(path)


# torch archives


def test_a_checkpoint_header_gives_absolute_byte_ranges(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32)
    pickle = pickle_of(
        dictionary(
            {
                "state_dict": dictionary(
                    {"whole": tensor("0", (3, 4)), "rows": tensor("0", (2, 4), offset=4, count=12)}
                ),
                "global_step": integer(470000),
                "note": text("hello"),
            }
        )
    )
    path = write_zip(tmp_path / "x.ckpt", torch_entries(pickle, {"0": values.tobytes()}))
    header = read_header(path)
    raw = path.read_bytes()
    for name, expected in (("whole", values), ("rows", values[4:])):
        info = header.tensors[name]
        assert raw[info.file_offset : info.file_offset + info.nbytes] == expected.tobytes()
    assert header.format == "torch-zip"
    assert (header.leftovers, header.notes) == ((), ())
    assert header.scalars == {"global_step": 470000, "note": "hello"}


def test_a_dictionary_of_tensors_needs_no_state_dict(tmp_path: Path) -> None:
    pickle = pickle_of(dictionary({"w": tensor("0", (2,))}))
    assert list(read_header(write_zip(tmp_path / "x.pt", torch_entries(pickle, {"0": 8}))).tensors) == ["w"]


def test_the_vectors_of_an_embedding_are_found_one_level_down(tmp_path: Path) -> None:
    pickle = pickle_of(dictionary({"string_to_param": dictionary({"*": tensor("0", (2, 768))}), "name": text("cat")}))
    header = read_header(write_zip(tmp_path / "x.pt", torch_entries(pickle, {"0": 4 * 2 * 768})))
    assert header.tensors["string_to_param.*"].shape == (2, 768)


def test_the_vectors_of_an_embedding_that_torch_wrote_are_found(tmp_path: Path) -> None:
    import torch

    value = {"string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.randn(2, 768))}), "name": "cat"}
    torch.save(value, tmp_path / "x.pt")
    assert read_header(tmp_path / "x.pt").tensors["string_to_param.*"].shape == (2, 768)


def test_keys_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    pickle = pickle_of(b"}(" + integer(5) + tensor("0", (2,)) + text("w") + tensor("0", (2,)) + b"u")
    assert list(read_header(write_zip(tmp_path / "x.pt", torch_entries(pickle, {"0": 8}))).tensors) == ["w"]


@pytest.mark.parametrize(("shape", "strides"), [((3, 4), (1, 3)), ((3, 3), (0, 1)), ((2, 2), (1, 1)), ((2, 2), (4, 1))])
def test_a_tensor_that_does_not_lie_in_order_has_no_offset_but_a_reason(
    tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    pickle = pickle_of(dictionary({"w": tensor("0", shape, strides, count=12)}))
    info = read_header(write_zip(tmp_path / "x.pt", torch_entries(pickle, {"0": 48}))).tensors["w"]
    assert info.file_offset == -1
    assert "do not lie in order" in info.reason


@pytest.mark.parametrize(("shape", "strides"), [((), ()), ((1, 4), (99, 1)), ((0, 3), (7, 7)), ((3, 1, 4), (4, 0, 1))])
def test_strides_of_dimensions_that_are_not_walked_do_not_matter(
    tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    pickle = pickle_of(dictionary({"w": tensor("0", shape, strides, count=12)}))
    info = read_header(write_zip(tmp_path / "x.pt", torch_entries(pickle, {"0": 48}))).tensors["w"]
    assert info.file_offset > 0


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (tensor("9", (2,)), "the bytes of 'w' are not in the file"),
        (tensor("../../etc/passwd", (2,)), "are not in the file"),
        (tensor("0", (2,), count=3), "should have 12 bytes and has 8"),
        (tensor("0", (2,), count=2, kind="torch.HalfStorage"), "should have 4 bytes and has 8"),
        (tensor("0", (2,), count=2**61), "and has 8"),
        (tensor("0", (2,), offset=1, count=2), "reaches beyond its storage"),
        (tensor("0", (3,), count=2), "reaches beyond its storage"),
        (tensor("0", (2,), strides=(2,), count=2), "reaches beyond its storage"),
        (tensor("0", (2**20, 2**20), strides=(0, 0), count=2), "its strides .* would unfold it"),
        (tensor("0", (3,), strides=(0,), count=2), "its strides .* would unfold it"),
        (tensor("0", (0, 2**61), strides=(1, 1), count=2), "the shape of 'w' cannot be"),
        (tensor("0", (1,) * 17, count=2), "the shape of 'w' cannot be"),
    ],
)
def test_a_tensor_that_reaches_outside_its_bytes_is_refused(tmp_path: Path, value: bytes, why: str) -> None:
    path = write_zip(tmp_path / "x.ckpt", torch_entries(pickle_of(dictionary({"w": value})), {"0": 8}))
    with pytest.raises(UnreadableModel, match=why):
        read_header(path)


def test_a_checkpoint_that_carries_code_is_unsafe_and_the_code_does_not_run(tmp_path: Path) -> None:
    payload = call("posix.mkdir", text(str(tmp_path / "canary")))
    path = write_zip(tmp_path / "x.ckpt", torch_entries(pickle_of(dictionary({"w": payload})), {}))
    with pytest.raises(UnsafeModel, match=r"x.ckpt: the pickle asks for posix.mkdir; .* Nothing of it was run"):
        read_header(path)
    assert not (tmp_path / "canary").exists()


def test_a_pickle_under_the_name_of_safetensors_is_still_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"cposix\nmkdir\n(S'canary'\ntR.")
    with pytest.raises(UnsafeModel, match=r"posix\.mkdir"):
        read_header(tmp_path / "x.safetensors")


def test_a_safetensors_file_under_the_name_of_a_checkpoint_is_read(tmp_path: Path) -> None:
    assert read_header(write_safetensors(tmp_path / "x.CKPT", {"w": (2,)})).format == "safetensors"


CALLBACK = call("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint") + dictionary({"best": text("x")}) + b"b"
WEIGHTS = dictionary({"w": tensor("0", (2,))})


@pytest.mark.parametrize(
    "beside",
    [
        {"callbacks": CALLBACK},
        {"callbacks": dictionary({"a": CALLBACK})},
        {"hyper": call("my_project.config.make_config", text("a"))},
        {"hyper": call("__main__.TrainingArguments", WEIGHTS)},
        {"optimizer": call("torch.optim.adamw.AdamW")},
        {"activation": named("torch._C._nn.gelu")},
        {"loss": call("numpy.core.multiarray.scalar", call("numpy.dtype", text("f8")))},
        {"set": call("builtins.set", b"](" + CALLBACK + b"e")},
    ],
)
@pytest.mark.parametrize("is_wrapped", [True, False])
def test_leftovers_of_training_beside_the_weights_do_not_matter(
    tmp_path: Path, beside: dict[str, bytes], is_wrapped: bool
) -> None:
    weights = {"state_dict": WEIGHTS} if is_wrapped else {"w": tensor("0", (2,))}
    path = write_zip(tmp_path / "x.ckpt", torch_entries(pickle_of(dictionary({**weights, **beside})), {"0": 8}))
    header = read_header(path)
    assert list(header.tensors) == ["w"]
    plain = "numpy" in str(beside)
    assert bool(header.leftovers) is not plain
    assert set(header.leftovers) <= set(header.globals)
    if not plain:
        assert header.leftovers[0] in header.notes[0]


def test_what_real_training_leaves_does_not_matter(tmp_path: Path) -> None:
    """An optimiser, a schedule with a function of ours, a module, dates, paths: saved by torch itself."""
    import argparse
    import datetime

    import torch

    layer = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(layer.parameters())
    content = {
        "state_dict": layer.state_dict(),
        "optimizer": optimiser.state_dict(),
        "schedule": torch.optim.lr_scheduler.LambdaLR(optimiser, bytes_read_once),
        "ema": torch.nn.ReLU(),
        "args": argparse.Namespace(out=tmp_path, when=datetime.datetime(2024, 1, 1), rate=np.float64(0.1)),
        "random": np.random.default_rng(0).bit_generator.state,
    }
    for zipped in (True, False):
        torch.save(content, tmp_path / "x.ckpt", _use_new_zipfile_serialization=zipped)
        header = read_header(tmp_path / "x.ckpt")
        assert header.tensors.keys() == {"weight", "bias"}
        assert "torch.optim.lr_scheduler.LambdaLR" in header.leftovers


def bytes_read_once(step: int) -> float:
    """A function that a schedule refers to."""
    return float(step)


@pytest.mark.parametrize(
    ("value", "name", "why"),
    [
        (call("my.Model"), "my.Model", "a whole program object"),
        (call("my.Model") + WEIGHTS + b"b", "my.Model", "a whole program object"),
        (dictionary({"state_dict": call("my.Weights", WEIGHTS)}), "my.Weights", "a whole program object"),
        (dictionary({"state_dict": dictionary({"w": call("my.Lazy")})}), "my.Lazy", "'w' of its state_dict"),
        (dictionary({"w": call("my.Lazy")}), "my.Lazy", "no tensor that could be had without it"),
        (dictionary({"w": call("torch._utils._rebuild_parameter", call("my.Lazy"))}), "my.Lazy", "a tensor cannot be"),
        (dictionary({"w": call("torch._utils._rebuild_tensor_v2", call("my.Lazy"))}), "my.Lazy", "a tensor cannot be"),
        (
            dictionary(
                {
                    "w": call(
                        "torch._tensor._rebuild_from_type_v2",
                        named("torch._utils._rebuild_tensor_v2"),
                        named("my.Subclass"),
                        tuple_(),
                        b"N",
                    )
                }
            ),
            "my.Subclass",
            "a tensor cannot be",
        ),
        (dictionary({"w": call("my.storage") + b"Q"}), "my.storage", "a tensor cannot be"),
        (
            dictionary({"w": tuple_(text("storage"), named("my.Storage"), text("0"), text("cpu"), integer(1)) + b"Q"}),
            "my.Storage",
            "a tensor cannot be",
        ),
        (dictionary({"w": call("my.factory") + b")R"}), "my.factory", "for what it makes to be called"),
        (dictionary({"state_dict": WEIGHTS, "x": call("posix.system", text("true"))}), "posix.system", "a stranger's"),
        (dictionary({"state_dict": WEIGHTS, "x": named("builtins.eval")}), "builtins.eval", "a stranger's"),
        (dictionary({"state_dict": WEIGHTS, "x": call("torch.hub.load", text("a"))}), "torch.hub.load", "a stranger's"),
    ],
)
def test_a_tensor_that_cannot_be_had_without_a_global_refuses_the_file_with_its_name(
    tmp_path: Path, value: bytes, name: str, why: str
) -> None:
    path = write_zip(tmp_path / "x.ckpt", torch_entries(pickle_of(value), {"0": 8}))
    with pytest.raises(UnsafeModel, match=why) as caught:
        read_header(path)
    assert caught.value.global_name == name
    assert name in str(caught.value)


# Checksums


def test_the_checksums_of_the_small_members_are_always_compared(tmp_path: Path) -> None:
    for place, name in ((0, "archive/data.pkl"), (1, "archive/byteorder"), (3, "archive/version")):
        entries = torch_entries(pickle_of(WEIGHTS), {"0": 8})
        entries[place] = replace(entries[place], crc=1)
        with pytest.raises(UnreadableModel, match=f"{name} is damaged"):
            read_header(write_zip(tmp_path / "x.ckpt", entries))


def test_a_damaged_storage_is_found_when_the_whole_file_is_read(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "x.ckpt"
    torch.save({"a": torch.randn(1_000_000), "b": torch.zeros(0), "c": torch.randn(300)}, path)
    check_crcs(path)
    where = read_header(path).tensors
    for name, member in (("a", "x/data/0"), ("c", "x/data/2")):
        raw = bytearray(path.read_bytes())
        raw[where[name].file_offset + where[name].nbytes // 2] ^= 1
        (tmp_path / "y.ckpt").write_bytes(raw)
        read_header(tmp_path / "y.ckpt")
        with pytest.raises(UnreadableModel, match=f"{member} is damaged"):
            check_crcs(tmp_path / "y.ckpt")


@pytest.mark.parametrize("piece", [1, 7, 64, 1000, 1 << 20])
def test_checksums_are_compared_in_pieces_of_any_size(tmp_path: Path, piece: int) -> None:
    path = write_zip(tmp_path / "x.ckpt", torch_entries(pickle_of(WEIGHTS), {"0": b"12345678", "1": b"", "2": b"a"}))
    raw = path.read_bytes()
    with opened(path) as (descriptor, _):
        for is_damaged in (False, True):
            if is_damaged:
                raw = raw.replace(b"12345678", b"12345679")
            watch = crc_watch(path, descriptor)
            assert watch is not None
            with pytest.raises(UnreadableModel, match="data/0 is damaged") if is_damaged else nullcontext():
                for start in range(0, len(raw), piece):
                    watch.feed(raw[start : start + piece])
                watch.finish()
        watch = crc_watch(path, descriptor)
        assert watch is not None
        watch.feed(raw[:100])
        with pytest.raises(UnreadableModel, match="is damaged"):
            watch.finish()


def test_files_without_checksums_have_none_to_compare(tmp_path: Path) -> None:
    check_crcs(write_safetensors(tmp_path / "x.safetensors", {"w": (2,)}))


# Bombs


def test_a_header_that_would_grow_in_memory_is_refused_before_it_does(tmp_path: Path) -> None:
    whole = 16 * 1024 * 1024 - 64
    bombs = {
        "lists": b'{"w":[' + b"[]," * (whole // 3) + b"[]]}",
        "objects": b'{"w":[' + b"{}," * (whole // 3) + b"{}]}",
        "numbers": b'{"w":[' + b"0," * (whole // 2) + b"0]}",
        "too long": b'{"__metadata__":{"a":"' + b"x" * 20_000_000 + b'"}}',
        "tensors": json.dumps({f"t{n}": {**W, "data_offsets": [8 * n, 8 * n + 8]} for n in range(20_001)}).encode(),
    }
    for name, header in bombs.items():
        path = write_raw_safetensors(tmp_path / "x.safetensors", header, 8 * 20_001)
        tracemalloc.start()
        with pytest.raises(UnreadableModel, match=r"at most|more than any model needs"):
            read_header(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 40_000_000, name


def test_names_that_share_bytes_cannot_unfold_a_file(tmp_path: Path) -> None:
    names = {f"w{n}": tensor("0", (1000,)) for n in range(20_000)}
    path = write_zip(tmp_path / "x.ckpt", torch_entries(pickle_of(dictionary(names)), {"0": 4000}))
    with pytest.raises(UnreadableModel, match="would unfold to 80,000,000 bytes"):
        read_header(path)


@pytest.mark.parametrize(
    "value",
    [
        b"]q\0(" + b"N" * 20_000 + b"e0" + b"](" + (named("torch.Size") + b"h\0\x85R") * 20_000 + b"e",
        b"](" + tuple_(b")", b"N") * 20_000 + b"eq\0" + (named("collections.OrderedDict") + b"h\0\x85R0") * 20_000,
        b"}q\0(" + b"".join(text(str(n)) + b"N" for n in range(2000)) + b"u0"
        + b"}(" + b"".join(text(str(n)) + b"h\0" for n in range(2000)) + b"u",
        dictionary({f"w{n}": tensor("0", (1,)) for n in range(20_001)}),
    ],
    ids=["sizes", "dictionaries", "dictionaries of one", "tensors"],
)  # fmt: skip
def test_work_that_is_asked_for_again_and_again_is_refused(tmp_path: Path, value: bytes) -> None:
    path = write_zip(tmp_path / "x.ckpt", torch_entries(pickle_of(value), {"0": 4}))
    start = time.process_time()
    with pytest.raises(UnreadableModel, match=r"no model has|more than"):
        read_header(path)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "value",
    [
        b"}(" + text("w") + tensor("0", (2,)) + text("w") + tensor("1", (2,)) + b"u",
        dictionary({"a.b": tensor("0", (2,)), "a": dictionary({"b": tensor("1", (2,))})}),
        call("collections.OrderedDict", b"](" + tuple_(text("w"), tensor("0", (2,))) * 2 + b"e"),
    ],
)
def test_two_tensors_of_one_name_are_refused(tmp_path: Path, value: bytes) -> None:
    path = write_zip(tmp_path / "x.ckpt", torch_entries(pickle_of(value), {"0": 8, "1": 8}))
    with pytest.raises(UnreadableModel, match=r"occurs twice|are called 'a\.b'"):
        read_header(path)


@pytest.mark.parametrize("name", ["a\nb", "a\0", "a\x1b[31m", "\u202etxt", "../../x", "/etc/x", "x" * 1001])
def test_names_of_tensors_that_could_act_are_refused(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "x.ckpt", torch_entries(pickle_of(dictionary({name: tensor("0", (2,))})), {"0": 8}))
    with pytest.raises(UnreadableModel, match="the name") as caught:
        read_header(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([Entry("a/code/model.py", b""), Entry("a/data.pkl", b"")], "a TorchScript program"),
        ([Entry("a/constants.pkl", b""), Entry("a/data.pkl", b"")], "a TorchScript program"),
        ([Entry("photo.png", b"")], "a zip archive without tensors"),
        ([Entry("a/data.pkl", b""), Entry("b/data.pkl", b"")], "its members are out of place"),
        ([Entry("a/data.pkl", b""), Entry("a/other.pkl", b"")], "its members are out of place"),
        ([Entry("a/data.pkl", pickle_of(b"]"))], "its pickle is a list"),
        ([Entry("a/data.pkl", pickle_of(b"}")), Entry("a/byteorder", b"big")], "big-endian"),
        ([Entry("a/data.pkl", hole=65 << 20)], "bytes; at most"),
        ([Entry("a/data.pkl", pickle_of(b"}"), crc=1)], "its checksum is wrong"),
    ],
)
def test_an_archive_that_holds_no_weights_says_what_it_is(tmp_path: Path, entries: list[Entry], why: str) -> None:
    with pytest.raises(UnreadableModel, match=why):
        read_header(write_zip(tmp_path / "x.ckpt", entries))


# Files that are something else

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n  <html><body>Please log in", "a web page"),
        (bytes(4096), "begins with zeros only"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a weight file"),
        (b"hello", "not a weight file"),
        (pickle_of(b"}"), "a bare pickle without tensors"),
        (b"pickle" + bytes(251) + b"ustar" + bytes(300), "a tar archive: torch files before version 0.1.10"),
    ],
)
def test_a_file_that_is_something_else_says_what_it_is(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(UnreadableModel, match=why):
        read_header(tmp_path / "x.safetensors")


def test_an_old_torch_file_that_carries_code_is_unsafe(tmp_path: Path) -> None:
    evil = LEGACY + pickle_of(integer(1001)) + pickle_of(b"}") + pickle_of(call("os.system", text("true")))
    (tmp_path / "x.pt").write_bytes(evil)
    with pytest.raises(UnsafeModel, match=r"os\.system"):
        read_header(tmp_path / "x.pt")


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(UnreadableModel, match="not a regular file"):
        read_header(tmp_path / "pipe.safetensors")
    with pytest.raises(UnreadableModel, match="not a regular file"):
        read_header(tmp_path)
    with pytest.raises(UnreadableModel, match="No such file"):
        read_header(tmp_path / "gone.safetensors")


def test_a_symlink_is_followed(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x.safetensors", {"w": (2,)})
    (tmp_path / "link.safetensors").symlink_to("x.safetensors")
    assert list(read_header(tmp_path / "link.safetensors").tensors) == ["w"]


# Cost


def big(count: int = 1100) -> dict[str, tuple[int, ...]]:
    """About 4 GB of float32 in as many tensors as an SD-1 checkpoint has."""
    return {f"model.diffusion_model.middle.{number}.weight": (960, 1000) for number in range(count)}


@pytest.fixture(params=["ckpt", "safetensors"])
def big_file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / f"big.{request.param}"
    yield write_checkpoint(path, big()) if request.param == "ckpt" else write_safetensors(path, big(), dtype="F32")
    path.unlink()


def bytes_read() -> int:
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["rchar"])


def test_the_header_of_4_gb_costs_little(big_file: Path) -> None:
    assert big_file.stat().st_size > 4_000_000_000
    tracemalloc.start()
    before = bytes_read()
    header = read_header(big_file)
    read = bytes_read() - before
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(header.tensors) == 1100
    assert read < 1_000_000
    assert peak < 16_000_000


def test_telling_what_a_file_is_imports_no_torch() -> None:
    code = (
        "import sys, invokeai_daemon.models.identify, invokeai_daemon.models.registry, invokeai_daemon.models.settled\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# The real thing


def test_what_torch_saves_is_found_byte_for_byte(tmp_path: Path) -> None:
    import torch

    base = torch.randn(6, 8)
    tensors = {
        "half": base.half(),
        "brain": base.bfloat16(),
        "double": base.double(),
        "whole": torch.arange(5),
        "small": torch.arange(5, dtype=torch.uint8),
        "logic": base > 0,
        "f8": base.to(torch.float8_e4m3fn),
        "rows": base[2:4],
        "number": torch.tensor(3.5),
        "nothing": torch.zeros(0, 4),
        "trained": torch.nn.Parameter(base.clone()),
    }
    for name, content in {
        "dictionary.ckpt": {"state_dict": tensors, "global_step": 5},
        "module.pt": torch.nn.ParameterDict({"trained": tensors["trained"]}).state_dict(),
    }.items():
        torch.save(content, tmp_path / name)
        header = read_header(tmp_path / name)
        raw = (tmp_path / name).read_bytes()
        expected = content.get("state_dict", content)
        assert header.tensors.keys() == expected.keys()
        for key, info in header.tensors.items():
            found = raw[info.file_offset : info.file_offset + info.nbytes]
            assert found == expected[key].detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            assert info.shape == tuple(expected[key].shape)


def test_a_transposed_tensor_of_torch_is_known_as_such(tmp_path: Path) -> None:
    import torch

    torch.save({"w": torch.randn(3, 4).t()}, tmp_path / "x.pt")
    assert read_header(tmp_path / "x.pt").tensors["w"].file_offset == -1


def test_a_checkpoint_by_hand_is_what_torch_reads(tmp_path: Path) -> None:
    """The hand-written archives of these tests are real ones: torch loads them with weights_only."""
    import torch

    path = write_checkpoint(tmp_path / "x.ckpt", {"a": (2, 3), "b": (4,)}, {"global_step": integer(7)})
    loaded = torch.load(path, weights_only=True)
    assert loaded["global_step"] == 7
    assert {name: tuple(value.shape) for name, value in loaded["state_dict"].items()} == {"a": (2, 3), "b": (4,)}
