"""Civitai: what a page of civitai.com shows: which file, its checksum, its type and the words that make it work.

Its bytes come through `download` as everybody's. A page without a version shows the newest one, and so it is taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from invokeai_daemon.errors import FetchInterrupted, InstallError
from invokeai_daemon.models.install.checks import Checksum
from invokeai_daemon.models.install.sources import CivitaiModel
from invokeai_daemon.models.install.web import Web

ENDPOINT = "https://civitai.com"
_MOST_BYTES = 8 << 20
#: Civitai's types, and the folders of autoimport/ that fit.
_FOLDERS = {
    "Checkpoint": "main",
    "LORA": "lora",
    "LoCon": "lora",
    "DoRA": "lora",
    "TextualInversion": "embedding",
    "Controlnet": "controlnet",
    "VAE": "vae",
    "Upscaler": "upscaler",
}
MOST_PHRASES = 50


@dataclass(frozen=True)
class Version:
    """One version of a model."""

    #: Where its main file is.
    url: str
    #: Where people look at it; empty when it is not known.
    page: str = ""
    checksum: Checksum | None = None
    description: str = ""
    trigger_phrases: tuple[str, ...] = ()
    #: The folder of autoimport/ that fits; None when the type has none.
    kind: str | None = None


def look(web: Web, source: CivitaiModel) -> Version:
    """What a page shows. Raises FetchInterrupted for what may pass, InstallError for what will not."""
    if source.version is None:
        model = _asked(web, f"{ENDPOINT}/api/v1/models/{source.model}")
        versions = model.get("modelVersions")
        if not isinstance(versions, list) or not versions or not isinstance(versions[0], dict):
            raise InstallError(f"{source}: the model has no version that can be fetched.")
        return _version(versions[0], model, source.model)
    try:
        version = _asked(web, f"{ENDPOINT}/api/v1/model-versions/{source.version}")
    except FetchInterrupted:
        raise
    except InstallError:
        # The file can be there for those who may have it, though nothing is told of it.
        return Version(_download(source.version))
    about = version.get("model")
    return _version(version, about if isinstance(about, dict) else {}, version.get("modelId") or source.model)


def _asked(web: Web, url: str) -> Mapping[str, Any]:
    try:
        found = json.loads(web.content(url, _MOST_BYTES))
    except ValueError as error:
        raise FetchInterrupted(f"{url}: the answer is not JSON.") from error
    return found if isinstance(found, dict) else {}


def _version(version: Mapping[str, Any], model: Mapping[str, Any], model_id: object) -> Version:
    number = version.get("id")
    if not isinstance(number, int):
        raise InstallError(f"{ENDPOINT}/models/{model_id}: the answer names no version.")
    return Version(
        _download(str(number)),
        page=f"{ENDPOINT}/models/{model_id}?modelVersionId={number}" if model_id else "",
        checksum=_checksum(version),
        description=" ".join(filter(None, (_text(model.get("name")), _text(version.get("name"))))),
        trigger_phrases=_phrases(version.get("trainedWords")),
        kind=_FOLDERS.get(str(model.get("type"))),
    )


def _download(version: str) -> str:
    return f"{ENDPOINT}/api/download/models/{version}"


def _checksum(version: Mapping[str, Any]) -> Checksum | None:
    """That of the main file, which the address without a choice of file leads to."""
    files = version.get("files")
    for file in files if isinstance(files, list) else ():
        if isinstance(file, dict) and file.get("primary") and isinstance(file.get("hashes"), dict):
            try:
                return Checksum.parse(str(file["hashes"].get("SHA256") or ""))
            except InstallError:
                return None
    return None


def _phrases(words: object) -> tuple[str, ...]:
    found = (_text(word) for word in words) if isinstance(words, list) else ()
    return tuple(dict.fromkeys(filter(None, found)))[:MOST_PHRASES]


def _text(value: object) -> str:
    """One line of at most 500 printable characters."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return "".join(character for character in text if character.isprintable())[:500].strip(" ,")
