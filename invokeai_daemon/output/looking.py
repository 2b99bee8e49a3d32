"""Looking: what a picture file is, told from a descriptor, before anything is made of it. Called by the planner.

Hostile files cost little: only regular files are opened, their bytes and pixels are bounded, and few formats are read.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from invokeai_daemon.errors import DaemonError

if TYPE_CHECKING:
    import PIL.Image

#: Pillow's names.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
#: How the names of such files end.
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
#: EXIF orientations that lay a picture on its side.
_ON_ITS_SIDE = (5, 6, 7, 8)
_ORIENTATION = 0x0112
#: What stands in a PNG that may say how it lies.
_MARKS = (b"eXIf", b"Raw profile type", b"adobe.xmp")


class PictureError(DaemonError):
    """The file is no picture that can be used; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "", is_passing: bool = False) -> None:
        self.message, self.hint = message, hint
        #: So is a file that is still being copied.
        self.is_passing = is_passing
        super().__init__(f"{message} {hint}".strip())


@dataclass(frozen=True)
class Seen:
    """A picture file that was looked at."""

    #: Pixels of the upright picture.
    width: int
    height: int
    #: "sha256:…" of the file.
    hash: str
    bytes: int
    #: It has, or may have, transparent parts.
    has_alpha: bool = False


def open_regular(path: Path, shown: str = "") -> int:
    """A descriptor of a regular file, reached over no link. Raises PictureError, and OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PictureError(f"{shown or path} is no regular file.")
    return descriptor


def look(path: Path, shown: str, max_bytes: int, max_pixels: int) -> Seen:
    """What a picture is; `shown` names it in messages.

    All of it is read once, and decoded as far as it takes to know that it is whole.
    Raises PictureError, and OSError when it cannot be opened.
    """
    with os.fdopen(open_regular(path, shown), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            hint = "Take a smaller file, or raise image_bytes under [limits] in configs/daemon.toml."
            raise PictureError(f"{shown} has {size:,} bytes; the limit is {max_bytes:,}.", hint)
        content = file.read(max_bytes)
    digest = hashlib.sha256(content).hexdigest()
    width, height, has_alpha = _checked(shown, content, max_pixels)
    return Seen(width, height, f"sha256:{digest}", size, has_alpha)


def _checked(shown: str, content: bytes, max_pixels: int) -> tuple[int, int, bool]:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > max_pixels:
                    raise _too_large(shown, f"has {width} × {height} pixels", max_pixels)
                has_alpha = "A" in picture.getbands() or "transparency" in picture.info
                is_on_its_side = _decoded(picture, content)
    except Image.DecompressionBombError:
        raise _too_large(shown, "has too many pixels", max_pixels) from None
    except UnidentifiedImageError:
        hint = f"Use {', '.join(FORMATS)}."
        raise PictureError(f"{shown} is no picture that can be read.", hint, is_passing=True) from None
    except PictureError:
        raise
    except Exception as error:
        # Pillow's readers raise whatever a broken file leads to.
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PictureError(f"{shown} is damaged: {what}.", "Copy it again.", is_passing=True) from error
    return (height, width, has_alpha) if is_on_its_side else (width, height, has_alpha)


def _decoded(picture: PIL.Image.Image, content: bytes) -> bool:
    """Meet the end of the file, in the cheapest way that its format has. Whether the picture lies on its side."""
    if picture.format == "PNG" and not any(mark in content for mark in _MARKS):
        picture.verify()
        return False
    # An eighth of the size costs a JPEG little more than reading it.
    picture.draft("L", (1, 1))
    picture.load()
    return picture.getexif().get(_ORIENTATION) in _ON_ITS_SIDE


def _too_large(shown: str, what: str, max_pixels: int) -> PictureError:
    hint = "Scale it down first, or raise max_pixels under [limits] in configs/daemon.toml."
    return PictureError(f"{shown} {what}; at most {max_pixels:,} are read.", hint)
