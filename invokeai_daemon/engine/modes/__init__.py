"""Modes: what kinds of pictures can be asked for, and how each is made. One module for each.

The renderer asks `mode_of` when an image starts.
"""

from __future__ import annotations

from collections.abc import Callable

from invokeai_daemon.engine.modes.text import text_to_image
from invokeai_daemon.engine.passes import Desk, Mode
from invokeai_daemon.job.plan import Image


def mode_of(image: Image) -> Callable[[Desk, Image], Mode]:
    """How an image is made."""
    return text_to_image
