"""Configs: the small JSON files that lie beside weights in a diffusers or transformers folder.

Called by identification, settling and conversion. They are written by strangers, so their size is bounded.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.header import opened

#: Indexes of the shards of large models have some hundred kilobytes.
MAX_BYTES = 4 * 1024 * 1024
#: Values in it; each costs up to a hundred bytes once it is parsed, and the daemon itself reads configs.
MAX_VALUES = 200_000


def has_config(path: Path) -> bool:
    """Whether a folder has this config, which then says what the folder is: nothing else in it is asked instead.

    Raises UnreadableModel when something else has its name: a pipe, a device, a link that leads nowhere.
    """
    if not os.path.lexists(path):
        return False
    with opened(path):
        return True


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UnreadableModel."""
    with opened(path) as (_, size):
        if size > MAX_BYTES:
            raise UnreadableModel(f"{path}: {size:,} bytes are too many for a config.")
    raw = path.read_bytes()
    if sum(map(raw.count, (b"[", b"{", b","))) > MAX_VALUES:
        raise UnreadableModel(f"{path}: more than {MAX_VALUES:,} values are too many for a config.")
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UnreadableModel(f"{path}: not proper JSON ({str(error)[:200]}).") from error
    if not isinstance(content, dict):
        raise UnreadableModel(f"{path}: not a JSON object.")
    return content
