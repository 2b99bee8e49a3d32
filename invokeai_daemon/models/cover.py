"""Covers: the picture that shows what a model does, as a file and as the data URL of InvokeAI's settings files.

Called by the commands. A picture is a stranger's file: only PNG, JPEG and WebP, its size checked before its pixels are
read, and what is kept or sent on is always written anew.
"""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from invokeai_daemon import files
from invokeai_daemon.errors import ModelError
from invokeai_daemon.models.header import opened
from invokeai_daemon.root import Root

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 32 * 1024 * 1024
MAX_PIXELS = 64 * 1024 * 1024
#: Pixels of the longer side of a cover that is kept or exported.
SIDE = 512


def covers(root: Root) -> Path:
    """Where covers lie that were imported with settings."""
    return root.models / "covers"


class UnreadablePicture(ModelError):
    """The picture cannot be read."""


def opened_picture(path: Path) -> Image.Image:
    """The pixels of a picture file. Raises UnreadablePicture, OSError."""
    with opened(path) as (_, size):
        if size > MAX_BYTES:
            raise UnreadablePicture(
                f"{path}: {size:,} bytes are too many for a picture; at most {MAX_BYTES:,} are read."
            )
        return _picture(path.read_bytes(), str(path))


def _picture(raw: bytes, where: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise UnreadablePicture(f"{where}: {picture.width} x {picture.height}: its pixels are too many.")
            return picture.convert("RGB")
    except Image.DecompressionBombError as error:
        raise UnreadablePicture(f"{where}: its pixels are too many.") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UnreadablePicture(f"{where}: no PNG, JPEG or WebP picture, or a damaged one.") from error


def data_url(path: Path) -> str:
    """A picture file as InvokeAI writes it into settings: small, as text. Raises UnreadablePicture, OSError."""
    return f"data:image/png;base64,{base64.b64encode(_small_png(opened_picture(path))).decode()}"


def kept(url: str, root: Root, name: str) -> Path:
    """The picture of a data URL as a file under `models/covers/`. Raises UnreadablePicture, OSError."""
    head, comma, body = url.partition(",")
    if not (head.startswith("data:image/") and head.endswith(";base64") and comma) or len(body) > 2 * MAX_BYTES:
        raise UnreadablePicture(f"the cover image of {name} is no data URL of a picture.")
    try:
        raw = base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise UnreadablePicture(f"the cover image of {name} is no base64.") from error
    return _keep(_picture(raw, f"the cover image of {name}"), root, name)


def _keep(picture: Image.Image, root: Root, name: str) -> Path:
    """A picture as the cover of a model, under `models/covers/`."""
    from invokeai_daemon.models.convert.store import folder_name

    path = covers(root) / f"{folder_name(name)}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path, _small_png(picture))
    return path


def _small_png(picture: Image.Image) -> bytes:
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue()
