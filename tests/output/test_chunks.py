"""Text chunks of files that anybody made: read, or refused in a sentence, with bounded work."""

from __future__ import annotations

import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from invokeai_daemon.errors import JobError
from invokeai_daemon.output.chunks import MAX_TEXT, SIGNATURE, read_text_chunks
from invokeai_daemon.output.png import encode

PNG = encode(np.zeros((8, 8, 3), np.uint8), {"Dream": "a cat -s 5", "other": "猫"}, 1)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write(tmp_path: Path, raw: bytes) -> Path:
    path = tmp_path / "drop.png"
    path.write_bytes(raw)
    return path


def refusal(tmp_path: Path, raw: bytes) -> str:
    with pytest.raises(JobError) as caught:
        read_text_chunks(write(tmp_path, raw))
    return str(caught.value)


def test_compressed_text_of_other_programs_is_read(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", "a cat", zip=True)
    info.add_itxt("title", "猫", zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "drop.png", pnginfo=info)
    assert read_text_chunks(tmp_path / "drop.png") == {"parameters": "a cat", "title": "猫"}


def test_text_after_the_picture_is_read(tmp_path: Path) -> None:
    end = chunk(b"IEND", b"")
    path = write(tmp_path, PNG.removesuffix(end) + chunk(b"tEXt", b"late\0text") + end)
    assert read_text_chunks(path)["late"] == "text"


def test_the_first_of_two_equal_keywords_counts(tmp_path: Path) -> None:
    path = write(tmp_path, SIGNATURE + chunk(b"tEXt", b"a\x001") + chunk(b"tEXt", b"a\x002") + chunk(b"IEND", b""))
    assert read_text_chunks(path) == {"a": "1"}


@pytest.mark.parametrize("size", [0, 7, 8, 20, len(PNG) // 2, len(PNG) - 12])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, size: int) -> None:
    assert "no sound PNG file: it " in refusal(tmp_path, PNG[:size])


def test_text_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    assert "the checksum of its tEXt chunk is wrong" in refusal(tmp_path, PNG.replace(b"a cat", b"b cat"))


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    assert "it does not start like one" in refusal(tmp_path, b"\xff\xd8\xff\xe0" + bytes(100))


def test_a_text_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(50 * MAX_TEXT // 16), 9)
    raw = SIGNATURE + chunk(b"zTXt", b"a\0\0" + bomb) * 6 + chunk(b"IEND", b"")
    start = time.thread_time()
    assert f"its text is longer than {MAX_TEXT} bytes" in refusal(tmp_path, raw)
    assert time.thread_time() - start < 1


def test_a_length_beyond_the_file_is_refused_without_reading(tmp_path: Path) -> None:
    raw = SIGNATURE + struct.pack(">I", 2**31 - 1) + b"tEXt" + b"a\0b"
    assert "its text is longer than" in refusal(tmp_path, raw)


def test_a_picture_of_any_size_is_skipped_not_decoded(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    raw = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1_000_000))) + chunk(b"tEXt", b"a\0b")
    assert read_text_chunks(write(tmp_path, raw + chunk(b"IEND", b""))) == {"a": "b"}


@given(st.data())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_with_any_damage_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(PNG)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = write(tmp_path, bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    try:
        read_text_chunks(path)
    except JobError as error:
        assert "no sound PNG file" in str(error)
