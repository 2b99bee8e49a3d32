"""Starters: `configs/INITIAL_MODELS.yaml`, the models that can be fetched by name, in InvokeAI 2.3's format.

A copy ships with the package; a root's own copy may be edited. Called by `models install`, the downloader and `init`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files as package_files
from urllib.parse import urlsplit

from invokeai_daemon.errors import InstallError, Problem
from invokeai_daemon.files import publish
from invokeai_daemon.models.install.checks import Checksum
from invokeai_daemon.models.install.sources import (
    HUB_HOSTS,
    HubModel,
    Source,
    WebFile,
    parse_source,
)
from invokeai_daemon.models.stanzas import Reader, Stanza
from invokeai_daemon.root import Root

FILE = "INITIAL_MODELS.yaml"


@dataclass(frozen=True)
class Starter:
    """A model of the list."""

    name: str
    #: Where to get it: the first that is there counts.
    sources: tuple[HubModel | WebFile, ...]
    description: str = ""
    #: The VAE that the list pairs it with.
    vae: HubModel | WebFile | None = None
    #: GB, as the list says; None when it does not.
    size_gb: float | None = None
    recommended: bool = False
    default: bool = False
    checksum: Checksum | None = None
    #: Words that the model was trained on.
    trigger_phrases: tuple[str, ...] = ()


def shipped_text() -> str:
    return (package_files("invokeai_daemon") / "data" / FILE).read_text(encoding="utf-8")


def write_starters(root: Root) -> None:
    """Put the shipped list into a root that has none."""
    path = root.configs / FILE
    if not path.exists():
        publish(path, shipped_text().encode())


def read_starters(root: Root) -> tuple[dict[str, Starter], tuple[Problem, ...]]:
    """The starters of a root in the order of its list, and what is wrong in it. Without a list, the shipped ones."""
    try:
        raw = (root.configs / FILE).read_bytes()
    except OSError:
        raw = shipped_text().encode()
    document = Reader(_starter).read(raw)
    return {piece.name: piece.made for piece in document.pieces if piece.made is not None}, document.problems


def parser_of(root: Root, hub_endpoint: str, local: bool = False) -> Callable[[str], Source]:
    """What texts mean for one root: with its starters and its hub. `local`: paths may be meant too."""
    starters = read_starters(root)[0]
    hosts = HUB_HOSTS | {urlsplit(hub_endpoint).netloc.lower()} - {""}
    return lambda text: parse_source(text, starters, local=local, hub_hosts=hosts)


def recommended(starters: Iterable[Starter]) -> list[Starter]:
    return [starter for starter in starters if starter.recommended or starter.default]


def _starter(stanza: Stanza) -> tuple[Starter | None, list[Problem]]:
    value = stanza.value
    try:
        size = value.get("size_gb")
        starter = Starter(
            stanza.name,
            tuple(_sources(value)),
            description=str(value.get("description") or ""),
            vae=_vae(value.get("vae")),
            size_gb=float(size) if isinstance(size, int | float) else None,
            recommended=value.get("recommended") is True,
            default=value.get("default") is True,
            trigger_phrases=tuple(map(str, _list(value.get("trigger_phrases")))),
            checksum=Checksum.parse(str(value["hash"])) if value.get("hash") else None,
        )
    except InstallError as error:
        return None, [Problem(str(error), stanza.name, 1, "The entry is left out until this is corrected.")]
    return starter, []


def _sources(value: dict[str, object]) -> list[HubModel | WebFile]:
    texts = [value.get("url") or value.get("repo_id"), *_list(value.get("mirrors"))]
    revision, subfolder = value.get("revision"), value.get("subfolder")
    return [_source(text, revision, subfolder) for text in texts]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _vae(value: object) -> HubModel | WebFile | None:
    if not isinstance(value, dict) or not (value.get("url") or value.get("repo_id")):
        return None
    return _source(value.get("url") or value.get("repo_id"), value.get("revision"), value.get("subfolder"))


def _source(text: object, revision: object, subfolder: object) -> HubModel | WebFile:
    if not isinstance(text, str):
        raise InstallError("a starter names a repo_id: owner/name, or a url.")
    source: Source = parse_source(text)
    if not isinstance(source, HubModel | WebFile):
        raise InstallError(f"{text} is no repository and no address.")
    if isinstance(source, HubModel) and (revision or subfolder):
        revised = f"@{revision}" if revision else ""
        source = parse_source(f"{source.repo}{revised}{f':{subfolder}' if subfolder else ''}")
        assert isinstance(source, HubModel)
    return source
