"""PNG files: pixels come back as they were, and every reader reads the text."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from invokeai_daemon.output.chunks import read_text_chunks
from invokeai_daemon.output.png import encode
from tests.strict_toml.values import texts

PIXELS = np.arange(8 * 16 * 3, dtype=np.uint8).reshape(8, 16, 3)
keywords = st.from_regex(r"[A-Za-z][A-Za-z_-]{0,20}", fullmatch=True)


@pytest.mark.parametrize("compression", [0, 3, 9])
def test_pixels_come_back_as_they_were(compression: int) -> None:
    with Image.open(io.BytesIO(encode(PIXELS, {}, compression)), formats=["PNG"]) as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), PIXELS)


@given(st.dictionaries(keywords, texts, max_size=4))
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pillow_and_the_daemon_read_the_same_text(tmp_path: Path, chunks: dict[str, str]) -> None:
    raw = encode(PIXELS, chunks, 1)
    path = tmp_path / "a.png"
    path.write_bytes(raw)
    assert read_text_chunks(path) == chunks
    with Image.open(path) as image:
        assert image.text == chunks  # type: ignore[attr-defined]


def test_text_is_plain_where_latin_1_suffices_and_never_compressed() -> None:
    raw = encode(PIXELS, {"a": "café " * 1_000, "b": "猫" * 1_000}, 9)
    assert ("café " * 1_000).encode("latin-1") in raw
    assert ("猫" * 1_000).encode() in raw
    assert (raw.count(b"tEXt"), raw.count(b"iTXt"), raw.count(b"zTXt")) == (1, 1, 0)


def test_megabytes_of_text_can_be_read_back_by_pillow() -> None:
    text = "猫" * 1_000_000
    with Image.open(io.BytesIO(encode(PIXELS, {"a": text}, 9))) as image:
        assert image.text["a"] == text  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "chunks", [{"": "x"}, {"k" * 80: "x"}, {"猫": "x"}, {"a\nb": "x"}, {"a": "x\0y"}, {"a": "\ud800"}], ids=repr
)
def test_text_that_png_does_not_allow_is_refused(chunks: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        encode(PIXELS, chunks, 1)


@pytest.mark.parametrize("pixels", [PIXELS[..., 0], PIXELS.astype(np.float32), np.zeros((4, 4, 4), np.uint8)])
def test_pixels_of_another_shape_or_type_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"needed: uint8 \[height, width, 3\]"):
        encode(pixels, {}, 1)
