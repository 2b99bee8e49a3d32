"""The header of a GGUF file: what the format's own writer wrote is found byte for byte; what lies is refused fast."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.formats.gguf import TYPES
from invokeai_daemon.models.header import read_header
from invokeai_daemon.models.settled import proof
from tests.models.build import gguf_array, gguf_file, gguf_tensor, gguf_text, gguf_value

KINDS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "TQ1_0")


def written(path: Path, fill: Callable[[gguf.GGUFWriter], None], **options: int) -> Path:
    writer = gguf.GGUFWriter(path, "flux")
    if options:
        writer.add_custom_alignment(options["alignment"])
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_types_have_the_sizes_that_the_format_gives_them() -> None:
    sizes = {
        kind.value: (kind.name, *gguf.GGML_QUANT_SIZES[kind])
        for kind in gguf.GGMLQuantizationType
        if kind in gguf.GGML_QUANT_SIZES
    }
    assert {number: sizes[number] for number in TYPES} == TYPES


@pytest.mark.parametrize("alignment", [0, 64, 4096])
def test_plain_tensors_are_found_byte_for_byte_in_torchs_order(tmp_path: Path, alignment: int) -> None:
    arrays = {
        "img_in.weight": np.arange(15, dtype=np.float32).reshape(3, 5),
        "conv.weight": np.arange(2 * 3 * 4 * 5, dtype=np.float16).reshape(2, 3, 4, 5),
        "bias": np.array([1, 2, 3], dtype=np.int8),
        "wide": np.arange(4, dtype=np.float64),
        "count": np.arange(4, dtype=np.int64),
    }

    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_name("a name")
        writer.add_bool("is_good", True)
        writer.add_array("sizes", [1, 2, 3])
        writer.add_array("words", [f"w{n}" for n in range(1000)])
        for name, array in arrays.items():
            writer.add_tensor(name, array)

    path = written(tmp_path / "x.gguf", fill, **({"alignment": alignment} if alignment else {}))
    header = read_header(path)
    raw = path.read_bytes()
    assert header.format == "gguf"
    for name, array in arrays.items():
        info = header.tensors[name]
        assert info.shape == array.shape
        assert raw[info.file_offset : info.file_offset + info.nbytes] == array.tobytes()
    assert [info.dtype for info in header.tensors.values()] == ["F32", "F16", "I8", "F64", "I64"]
    assert header.metadata["general.architecture"] == "flux"
    assert header.metadata["general.name"] == "a name"
    assert (header.metadata["is_good"], header.metadata["sizes"]) == ("true", "[1, 2, 3]")
    assert header.metadata["words"] == "(1,000 values)"
    assert proof(path).state == "complete"


@pytest.mark.parametrize("kind", KINDS)
def test_quantised_tensors_have_the_shape_of_what_they_stand_for(tmp_path: Path, kind: str) -> None:
    elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = np.random.default_rng(0).integers(0, 256, (6, 2 * size), dtype=np.uint8)
    path = written(
        tmp_path / "x.gguf",
        lambda writer: writer.add_tensor("w", blocks, raw_dtype=gguf.GGMLQuantizationType[kind]),
    )
    info = read_header(path).tensors["w"]
    assert (info.dtype, info.shape, info.nbytes) == (kind, (6, 2 * elements), blocks.nbytes)
    assert path.read_bytes()[info.file_offset :][: info.nbytes] == blocks.tobytes()


def test_a_tensor_that_was_bent_to_fit_has_its_own_shape(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_array("comfy.gguf.orig_shape.w", [4, 2, 3, 2, 2])
        writer.add_tensor("w", np.zeros((24, 4), np.float16))

    header = read_header(written(tmp_path / "x.gguf", fill))
    assert header.tensors["w"].shape == (4, 2, 3, 2, 2)
    assert not any("orig_shape" in key for key in header.metadata)


def test_no_beginning_of_a_file_passes_for_the_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "x.gguf", lambda writer: writer.add_tensor("w", np.ones((3, 8), np.float32)))
    raw = path.read_bytes()
    for length in range(1, len(raw)):
        path.write_bytes(raw[:length])
        if proof(path).state == "complete":
            assert read_header(path).tensors["w"].nbytes == 96  # only the padding after the last tensor was missing
            assert length >= len(raw) - 32
            continue
        with pytest.raises(UnreadableModel, match=r"cut off|not a weight file"):
            read_header(path)


T = gguf_tensor("w", (8,), 0, 0)
LONG = 2**62


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (gguf_file([T], data=32, version=1), "of version 1"),
        (gguf_file([T], data=32, version=99), "of version 99"),
        (gguf_file([T], data=32, version=0x03000000), "big-endian"),
        (gguf_file([T], data=32, tensors_said=2**63), "would have 9,223,372,036,854,775,808 tensors"),
        (gguf_file([T], data=32, keys_said=2**63), "9,223,372,036,854,775,808 keys"),
        (gguf_file([], keys_said=20_000), "cut off within its header"),
        (gguf_file([T, gguf_tensor("v", (8,), 0, 0)], data=32), "overlaps another"),
        (gguf_file([T, gguf_tensor("w", (8,), 0, 32)], data=64), "two of its tensors are called 'w'"),
        (gguf_file([gguf_tensor("w", (8,), 0, 64)], data=96), "'w' leaves a hole"),
        (gguf_file([gguf_tensor("w", (8,), 0, 7)], data=64), "does not lie on a multiple of 32"),
        (gguf_file([T], data=200), "168 bytes follow its last tensor"),
        (gguf_file([T], data=16), "cut off: 16 of its"),
        (gguf_file([gguf_tensor("w", (8,), 0, 2**63)], data=32), "size or offset of 'w' cannot be"),
        (gguf_file([gguf_tensor("w", (8,), 0, 2**64 - 32)], data=32), "size or offset of 'w' cannot be"),
        (gguf_file([gguf_tensor("w", (2**40, 2**40), 0, 0)], data=32), "size or offset of 'w' cannot be"),
        (gguf_file([gguf_tensor("w", (LONG, 0), 0, 0)]), "the shape of 'w' cannot be"),
        (gguf_file([gguf_tensor("w", (1,) * 5, 0, 0)], data=32), "would have 5 dimensions"),
        (gguf_file([gguf_tensor("w", (8,), 2, 0)], data=32), "no whole blocks of Q4_0"),
        (gguf_file([gguf_tensor("w", (8,), 4, 0)], data=32), "unknown type 4"),
        (gguf_file([gguf_tensor("w", (8,), 2**31, 0)], data=32), "unknown type 2147483648"),
        (gguf_file([gguf_tensor("a\nb", (8,), 0, 0)], data=32), "control characters"),
        (gguf_file([gguf_tensor("../../etc/x", (8,), 0, 0)], data=32), "leads out of its folder"),
        (gguf_file([gguf_tensor(b"\xff", (8,), 0, 0)], data=32), "not UTF-8"),
        (gguf_file([], [gguf_text("k", "v"), gguf_text("k", "w")]), "the key 'k' occurs twice"),
        (gguf_file([], [gguf_text(b"\xff\xfe", "v")]), "not UTF-8"),
        (gguf_file([], [gguf_text("k\x1b", "v")]), "control characters"),
        (gguf_file([], [struct.pack("<Q", LONG) + b"k"]), "a text of 4,611,686,018,427,387,904 bytes"),
        (gguf_file([], [gguf_value("k", 8, struct.pack("<Q", LONG))]), "a text of 4,611,686,018,427,387,904 bytes"),
        (gguf_file([], [gguf_value("k", 13, b"")]), "a value of the unknown type 13"),
        (gguf_file([], [gguf_array("k", 4, LONG)]), "more than 67,108,864 bytes"),
        (gguf_file([], [gguf_array("k", 8, LONG)]), "an array of 4,611,686,018,427,387,904 texts"),
        (gguf_file([], [gguf_array("k", 8, 1_000_000)]), "cut off within its header"),
        (gguf_file([], [gguf_array("k", 4, 1000)]), "cut off within its header"),
        (gguf_file([], [gguf_array("k", 9, 1, struct.pack("<IQ", 9, 1) * 2000)]), "arrays of arrays"),
        (gguf_file([], [gguf_array("k", 77, 1)]), "an array of the unknown type 77"),
        (gguf_file([], [gguf_value("general.alignment", 4, struct.pack("<I", 0))]), "alignment '0' is no sensible"),
        (gguf_file([], [gguf_value("general.alignment", 4, struct.pack("<I", 33))]), "alignment '33' is no sensible"),
        (gguf_file([], [gguf_value("general.alignment", 4, struct.pack("<I", 2**31))]), "is no sensible"),
        (gguf_file([], [gguf_text("general.alignment", "32")]), "is no sensible"),
        (gguf_file([T], [gguf_array("comfy.gguf.orig_shape.w", 5, 1, struct.pack("<i", 9))], 32), "does not fit"),
        (gguf_file([T], [gguf_array("comfy.gguf.orig_shape.w", 5, 1, struct.pack("<i", -8))], 32), "does not fit"),
        (b"GGUF", "cut off"),
    ],
)  # fmt: skip
def test_a_gguf_file_that_lies_is_refused_in_a_moment_and_for_nothing(tmp_path: Path, raw: bytes, why: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(raw)
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(UnreadableModel, match=why):
        read_header(path)
    spent = time.process_time() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 0.2
    assert peak < 2_000_000
    assert proof(path).reason


def test_a_whole_vocabulary_is_passed_over_and_not_kept(tmp_path: Path) -> None:
    words = b"".join(struct.pack("<Q", 8) + b"%08d" % n for n in range(256_000))
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_file([T], [gguf_array("tokens", 8, 256_000, words)], 32))
    tracemalloc.start()
    header = read_header(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.metadata == {"tokens": "(256,000 values)"}
    assert peak < 4_000_000


VALID = gguf_file([T, gguf_tensor("v", (4, 2), 1, 32)], [gguf_text("general.architecture", "sd3")], 64)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(4, len(VALID) - 1), st.binary(max_size=8)), min_size=1, max_size=4))
def test_a_damaged_gguf_file_gives_tensors_inside_it_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]]
) -> None:
    raw = bytearray(VALID)
    for place, new in changes:
        raw[place : place + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(raw)
    try:
        header = read_header(path)
    except UnreadableModel as error:
        assert str(path) in str(error)
    else:
        assert all(info.file_offset + info.nbytes <= len(raw) for info in header.tensors.values())
