"""Names: what a fetched file is called, and what its first bytes say it is. Pure.

A server proposes names; none of them can leave its folder, hide, or look like something else.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote, urlsplit

#: Endings of files that may be a model.
MODEL_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
MAX_BYTES = 200
_EXTENDED = re.compile(r"""filename\*\s*=\s*"?([\w-]+)'[^']*'([^;"]+)""", re.IGNORECASE)
_PLAIN = re.compile(r"""filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]+))""", re.IGNORECASE)
#: What some file systems refuse, and what shells and people stumble over.
_UNWANTED = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
#: Endings that the watcher takes for unfinished files.
_UNFINISHED = re.compile(r"(?:\.(?:part|partial|crdownload|download|aria2|tmp|temp|incomplete)|~)+$", re.IGNORECASE)


def safe_name(text: str, fallback: str = "model") -> str:
    """A file name without folders, control characters, a leading dot or too many bytes; its ending is kept."""
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", text)[-1])
    name = "".join(char for char in name if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    name = _UNFINISHED.sub("", _UNWANTED.sub("_", name).strip(" ."))
    name = re.sub(r"^[.~#\s]+", "", name).rstrip(" .")
    if _RESERVED.fullmatch(name):
        name = f"_{name}"
    return _shortened(name) or fallback


def _shortened(name: str) -> str:
    stem, ending = split_ending(name)
    room = MAX_BYTES - len(ending.encode())
    return stem.encode()[:room].decode("utf-8", "ignore").rstrip(" .") + ending


def split_ending(name: str) -> tuple[str, str]:
    """Stem and ending; an ending is short and follows a stem."""
    stem, dot, ending = name.rpartition(".")
    return (stem, f".{ending}") if dot and stem and len(ending) <= 12 else (name, "")


def has_model_suffix(name: str) -> bool:
    return name.lower().endswith(MODEL_SUFFIXES)


def disposition_name(header: str) -> str | None:
    """The file name in a Content-Disposition header, the extended form first; None when there is none."""
    extended = _EXTENDED.search(header)
    if extended:
        try:
            return unquote(extended[2].strip(), encoding=extended[1], errors="strict")
        except (LookupError, UnicodeDecodeError):
            pass
    plain = _PLAIN.search(header)
    if not plain:
        return None
    name = re.sub(r"\\(.)", r"\1", plain[1]) if plain[1] is not None else plain[2].strip()
    try:
        # Servers put UTF-8 there, which HTTP reads as Latin-1.
        return name.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return name


def url_name(url: str) -> str:
    """The last part of an address's path; may be empty."""
    return unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2])


def proposed_name(disposition: str, asked: str, answered: str) -> str:
    """What to call what came from an address: as its server says, else as an address says that looks like a file.

    `asked` is the address that was given, `answered` the one that redirects led to.
    """
    told = disposition_name(disposition)
    if told and safe_name(told, ""):
        return safe_name(told)
    names = [safe_name(url_name(url), "") for url in (asked, answered)]
    return next((name for name in names if has_model_suffix(name)), "") or names[0] or names[1] or "model"


def sniffed_suffix(head: bytes) -> str | None:
    """The ending that fits a file's first bytes; None when they are of no model."""
    if head[:4] == b"GGUF":
        return ".gguf"
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30:
        return ".safetensors"
    if head[:4] == b"PK\x03\x04" and re.match(rb"[^/]+/(?:data\.pkl|version|byteorder|\.format_version)", head[30:]):
        return ".ckpt"
    return ".ckpt" if re.match(rb"\x80[\x02-\x05]", head) else None


def strangeness(head: bytes, content_type: str) -> str:
    """What an answer is that should have been a model, as a phrase; empty when nothing speaks against it."""
    start = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    kind = content_type.partition(";")[0].strip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")) or (kind == "text/html" and not sniffed_suffix(head)):
        return f"a web page{_title(head)}, not a model file: a login or download page, perhaps"
    if kind in ("application/json", "application/problem+json") and start.startswith((b"{", b"[")):
        return f"a message, not a model file: {_excerpt(head)}"
    if start.startswith((b"<?xml", b"<error")):
        return f"an XML message, not a model file: {_excerpt(head)}"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the model itself"
    if head[:4] == b"PK\x03\x04" and sniffed_suffix(head) is None:
        return "a ZIP archive: unpack it, and drop the model that is in it"
    archives = {b"7z\xbc\xaf\x27\x1c": "a 7z archive", b"Rar!": "a RAR archive", b"\x1f\x8b": "a gzip archive"}
    for magic, what in archives.items():
        if head.startswith(magic):
            return f"{what}: unpack it, and drop the model that is in it"
    return ""


def _title(head: bytes) -> str:
    title = re.search(rb"<title[^>]*>([^<]{1,200})", head, re.IGNORECASE)
    return f' ("{_excerpt(title[1])}")' if title else ""


def _excerpt(raw: bytes) -> str:
    text = " ".join(raw[:300].decode("utf-8", "replace").split())
    return "".join(char for char in text if char.isprintable())[:160]
