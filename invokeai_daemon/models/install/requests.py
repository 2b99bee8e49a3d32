"""Requests: what a small file that was dropped in autoimport/ asks to fetch. Pure: bytes in, sources out.

    .url      a shortcut as Windows and Linux browsers write it, or a bare address
    .webloc   a shortcut as macOS writes it
    .txt      one source per line; empty lines and lines that start with # do not count
    .toml     a sidecar that came before its model: install = "…"

Licences and descriptions lie beside models: a text any of whose lines is prose asks for nothing.
"""

from __future__ import annotations

import plistlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from invokeai_daemon.errors import InstallError, NotASource, SidecarError
from invokeai_daemon.models.install.checks import Checksum
from invokeai_daemon.models.install.sources import Source
from invokeai_daemon.models.sidecar import Sidecar
from invokeai_daemon.strict_toml import read_toml, validate

SUFFIXES = (".url", ".webloc", ".txt", ".toml")
MAX_BYTES = 64 * 1024
MAX_SOURCES = 1000

Parse = Callable[[str], Source]


@dataclass(frozen=True)
class Request:
    """What a file asks for."""

    sources: tuple[Source, ...]
    #: The file is the sidecar of what arrives, which gets its stem.
    is_sidecar: bool = False
    #: What the file must be; None when it was not said.
    checksum: Checksum | None = None


def read_request(path: Path, raw: bytes, parse: Parse) -> Request | None:
    """What a file asks for; None for one that asks for nothing.

    Raises InstallError for what is meant as a request and cannot be followed.
    """
    match path.suffix.lower():
        case ".toml":
            return _sidecar(path, raw, parse)
        case ".webloc":
            return Request((_told(path, parse, _webloc(path, raw)),))
        case ".url":
            return _shortcut(path, _text(raw) or "", parse)
        case ".txt":
            return _lines(_text(raw), parse)
    return None


def _sidecar(path: Path, raw: bytes, parse: Parse) -> Request | None:
    if b"install" not in raw:
        return None
    document = read_toml(raw, str(path), SidecarError)
    if "install" not in document.data:
        return None
    sidecar: Sidecar = validate(Sidecar, document, SidecarError)
    source = _told(path, parse, sidecar.install or "")
    return Request((source,), is_sidecar=True, checksum=Checksum.parse(sidecar.hash) if sidecar.hash else None)


def _webloc(path: Path, raw: bytes) -> str:
    try:
        found: Any = plistlib.loads(raw)
    except (ValueError, ExpatError, IndexError, OverflowError, RecursionError, plistlib.InvalidFileException) as error:
        raise InstallError(f"{path.name} is no shortcut of macOS: {error}.") from error
    address = found.get("URL") if isinstance(found, dict) else None
    if not isinstance(address, str):
        raise InstallError(f"{path.name} is a shortcut without an address.")
    return address


_SECTION = re.compile(r"^\s*\[(?:InternetShortcut|Desktop Entry)\]\s*$", re.IGNORECASE | re.MULTILINE)
_URL_LINE = re.compile(r"^\s*URL\s*=\s*(\S.*?)\s*$", re.IGNORECASE | re.MULTILINE)


def _shortcut(path: Path, text: str, parse: Parse) -> Request:
    section = _SECTION.search(text)
    if section:
        line = _URL_LINE.search(text, section.end())
        if not line:
            raise InstallError(f"{path.name} is a shortcut without an address.")
        return Request((_told(path, parse, line[1]),))
    lines = _meant(text)
    if not lines or len(lines) > MAX_SOURCES:
        raise InstallError(f"{path.name} holds no address.")
    return Request(tuple(_told(path, parse, line) for line in lines))


def _told(path: Path, parse: Parse, text: str) -> Source:
    """A source of a file that can be nothing but a request."""
    try:
        return parse(text)
    except NotASource as error:
        raise InstallError(f"{path.name}: {error}") from error


def _lines(text: str | None, parse: Parse) -> Request | None:
    lines = _meant(text or "")
    if not lines or len(lines) > MAX_SOURCES:
        return None
    sources, refused = [], None
    for line in lines:
        try:
            sources.append(parse(line))
        except NotASource:
            return None
        except InstallError as error:
            refused = refused or error
    if refused:
        raise refused
    return Request(tuple(dict.fromkeys(sources)))


def _meant(text: str) -> list[str]:
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def _text(raw: bytes) -> str | None:
    """Text in the encodings that shortcuts and editors use; None for what is no text."""
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return None
