"""PNG files in memory: pixels and text chunks in, bytes out. Called by the renderer's writer threads."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The longest keyword of a text chunk, in bytes.
MAX_KEYWORD = 79


def encode(pixels: NDArray[np.uint8], chunks: Mapping[str, str], compression: int) -> bytes:
    """A PNG file of `pixels`, uint8 [height, width, 3], with its text first. `compression` is zlib's 0–9.

    Text in Latin-1 becomes tEXt, other text iTXt, never compressed: Pillow refuses to read large compressed text.
    Raises ValueError for pixels of another shape or type and for keywords and texts that PNG does not allow.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    if pixels.dtype.name != "uint8" or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels are {pixels.dtype} {list(pixels.shape)}; needed: uint8 [height, width, 3]")
    info = PngInfo()
    for keyword, text in chunks.items():
        _check_chunk(keyword, text)
        info.add_text(keyword, text)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", compress_level=compression, pnginfo=info)
    return file.getvalue()


def _check_chunk(keyword: str, text: str) -> None:
    if not 1 <= len(keyword.encode("latin-1")) <= MAX_KEYWORD or not keyword.isprintable():
        raise ValueError(f"{keyword!r} cannot be the keyword of a text chunk")
    if "\0" in text:
        raise ValueError(f"the text of {keyword} holds a NUL character")
