"""Names of jobs: ids that are safe as file names everywhere, and queued names that sort in running order.

Pure functions; nothing here touches the disk.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

#: Bytes of an id; leaves room for a rank, a sequence number, a suffix and ".error.txt" in 255 bytes.
MAX_ID_BYTES = 96
MIN_PRIORITY, MAX_PRIORITY = -1000, 1000
#: Windows refuses these stems, and outputs may lie on a share.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_QUEUED = re.compile(r"(\d{4})-(\d{8})-(.+)\.toml")


@dataclass(frozen=True)
class QueuedName:
    """What the name of a queued file says."""

    priority: int
    #: Arrival number; lower came first.
    sequence: int
    id: str

    def __str__(self) -> str:
        return f"{MAX_PRIORITY - self.priority:04}-{self.sequence:08}-{self.id}.toml"


def parse_queued(name: str) -> QueuedName | None:
    """The parts of a queued name; None for a name that the spool did not give."""
    match = _QUEUED.fullmatch(name)
    if match is None:
        return None
    priority = MAX_PRIORITY - int(match[1])
    if not MIN_PRIORITY <= priority <= MAX_PRIORITY:
        return None
    return QueuedName(priority, int(match[2]), match[3])


def safe_id(stem: str) -> str:
    """A job id from a dropped file's stem: letters, digits, `.`, `_` and `-`, at most `MAX_ID_BYTES` bytes of UTF-8.

    Equal stems give equal ids; a stem that had to be cut ends in a hash of the whole, so that long twins stay apart.
    """
    composed = unicodedata.normalize("NFC", stem)
    cleaned = re.sub(r"-{2,}", "-", "".join(c if _is_safe(c) else "-" for c in composed)).strip("-._")
    if cleaned.lower().partition(".")[0] in _RESERVED:
        cleaned = f"{cleaned}-job"
    return _cut(cleaned, stem) or "job"


def numbered(job_id: str, number: int) -> str:
    """`cat`, 2 → `cat-2`, still within the bound."""
    suffix = f"-{number}"
    return _first_bytes(job_id, MAX_ID_BYTES - len(suffix)) + suffix


def _is_safe(character: str) -> bool:
    return character in "._-" or character.isalnum() or unicodedata.category(character).startswith("M")


def _cut(cleaned: str, whole: str) -> str:
    if len(cleaned.encode()) <= MAX_ID_BYTES:
        return cleaned
    import hashlib  # late: `status` reads names too, and must be quick

    digest = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{_first_bytes(cleaned, MAX_ID_BYTES - 9)}-{digest}"


def _first_bytes(text: str, count: int) -> str:
    return text.encode()[:count].decode("utf-8", "ignore")
