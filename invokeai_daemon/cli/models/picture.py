"""Pictures in the terminal: kitty's and iTerm2's protocols where they are spoken, coloured half blocks elsewhere.

Called by `models show`, only when a person looks on. A picture is a stranger's file: its size is checked before its
pixels are read, and what the terminal gets is always drawn anew.
"""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from PIL import Image

from invokeai_daemon.errors import ModelError
from invokeai_daemon.models.cover import opened_picture

#: Columns that a picture takes.
COLUMNS = 40
#: Pixels of its longer side, where the terminal takes pixels.
SIDE = 512
#: Bytes of base64 in one of kitty's messages.
KITTY_CHUNK = 4096

_KITTY = {"kitty", "WezTerm", "ghostty"}
_ITERM = {"iTerm.app", "vscode", "mintty"}


def draw(path: str) -> None:
    """Draw a picture file on the terminal; nothing where it cannot be read or shown."""
    with suppress(ModelError, OSError, ValueError):
        picture = opened_picture(Path(path))
        for text in drawing(picture, protocol(os.environ)):
            sys.stdout.write(text)
        sys.stdout.write("\n")
        sys.stdout.flush()


def protocol(environ: Mapping[str, str]) -> str:
    """How this terminal takes pictures: "kitty", "iterm" or "blocks"."""
    program = environ.get("TERM_PROGRAM", "")
    if "TMUX" in environ or environ.get("TERM", "").startswith(("screen", "tmux")):
        return "blocks"
    if "KITTY_WINDOW_ID" in environ or program in _KITTY or environ.get("TERM") in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    return "iterm" if program in _ITERM or environ.get("LC_TERMINAL") == "iTerm2" else "blocks"


def drawing(picture: Image.Image, how: str) -> Iterator[str]:
    """What a terminal must be sent to show a picture."""
    if how == "blocks":
        yield _blocks(picture)
        return
    png = base64.b64encode(_png(picture)).decode()
    if how == "iterm":
        yield f"\x1b]1337;File=inline=1;width={COLUMNS};preserveAspectRatio=1:{png}\a"
        return
    pieces = [png[begin : begin + KITTY_CHUNK] for begin in range(0, len(png), KITTY_CHUNK)]
    for number, piece in enumerate(pieces, start=1):
        control = f"a=T,f=100,c={COLUMNS}," if number == 1 else ""
        yield f"\x1b_G{control}m={int(number < len(pieces))};{piece}\x1b\\"


def _png(picture: Image.Image) -> bytes:
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue()


def _blocks(picture: Image.Image) -> str:
    """Two pixels per character: the upper half in its colour, the lower half in that of its background."""
    from rich.console import Console
    from rich.text import Text

    small = picture.copy()
    small.thumbnail((COLUMNS, COLUMNS))
    console = Console(force_terminal=True)
    text = Text()
    for y in range(0, small.height, 2):
        for x in range(small.width):
            upper, lower = small.getpixel((x, y)), small.getpixel((x, min(y + 1, small.height - 1)))
            text.append("▀", style=f"rgb({_rgb(upper)}) on rgb({_rgb(lower)})")
        text.append("\n")
    with console.capture() as captured:
        console.print(text, end="", crop=False, overflow="ignore", no_wrap=True)
    return captured.get()


def _rgb(pixel: object) -> str:
    assert isinstance(pixel, tuple)
    return ",".join(str(int(value)) for value in pixel[:3])
