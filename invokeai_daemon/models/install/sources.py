"""Sources: what a text that names a model means. Pure: no file is opened, nothing is fetched.

    owner/repo            a repository of the hub
    owner/repo@rev        at a branch, tag or commit
    owner/repo:path       a folder or a file in it
    owner/repo:fp16       in a variant; owner/repo:fp16:path both, as InvokeAI writes them

Pages of huggingface.co, civitai.com and github.com that show a model or a file are taken for what they show.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

from invokeai_daemon.errors import InstallError, NotASource
from invokeai_daemon.models.install.names import has_model_suffix
from invokeai_daemon.strict_toml import nearest

MAX_LENGTH = 4096
#: What repositories call their weights of another precision.
VARIANTS = ("fp16", "fp32", "bf16")
HUB_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
_CIVITAI_HOSTS = frozenset({"civitai.com", "www.civitai.com"})

#: Names of parameters whose values are secrets.
_SECRET_PARTS = ("token", "key", "secret", "signature", "sig", "password", "credential", "auth", "policy")

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPOSITORY = re.compile(rf"{_NAME}/{_NAME}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}")
_HUB_TEXT = re.compile(rf"({_NAME}/{_NAME})(?:@([^:@\s]+))?(?:::?(.*))?")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
#: A text that can only be meant as a path of this machine.
_PATHLIKE = re.compile(r"(?:/|~|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\\\|file:)", re.IGNORECASE)
_GITHUB_FILE = re.compile(r"/([^/]+)/([^/]+)/blob/(.+)")
_CIVITAI_PAGE = re.compile(r"/models/([0-9]+)(?:/.*)?")
_CIVITAI_FILE = re.compile(r"/api/download/models/([0-9]+)")


@dataclass(frozen=True)
class LocalPath:
    """A file or folder of this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class WebFile:
    """A file at an address."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class HubModel:
    """A repository of the hub, or a folder or file in it."""

    repo: str
    #: A branch, tag or commit; None for the main branch.
    revision: str | None = None
    #: "fp16" and the like; None for what is there, fp16 preferred.
    variant: str | None = None
    #: A folder or file in the repository; empty for all of it.
    path: str = ""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        variant = f":{self.variant}" if self.variant else ""
        # A folder that is called like a variant keeps its slash, so that it stays a folder.
        path = f"{self.path}/" if self.path in VARIANTS and not variant else self.path
        return f"{self.repo}{revision}{variant}{f':{path}' if path else ''}"


@dataclass(frozen=True)
class CivitaiModel:
    """A model of civitai.com; at least one of both is known."""

    model: str | None
    #: None for the newest.
    version: str | None

    def __str__(self) -> str:
        if self.model is None:
            return f"https://civitai.com/api/download/models/{self.version}"
        version = f"?modelVersionId={self.version}" if self.version else ""
        return f"https://civitai.com/models/{self.model}{version}"


@dataclass(frozen=True)
class StarterName:
    """A name of the starter list."""

    name: str

    def __str__(self) -> str:
        return self.name


#: What is fetched.
Remote = WebFile | HubModel | CivitaiModel | StarterName
Source = LocalPath | Remote


def parse_source(
    text: str,
    starters: Collection[str] = (),
    *,
    local: bool = False,
    hub_hosts: Collection[str] = HUB_HOSTS,
) -> Source:
    """What a text means. `local`: paths of this machine are allowed, and go before all but addresses.

    Raises NotASource for what is none (prose), InstallError for what is meant as one and cannot be.
    """
    text = text.strip()
    if not text or len(text) > MAX_LENGTH or not text.isprintable():
        raise NotASource(f"{_shown(text)} names nothing that can be fetched.")
    scheme = _SCHEME.match(text)
    if scheme and not re.search(r"\s", text):
        return _address(text, scheme[1].lower(), hub_hosts)
    if local and _exists(text):
        return LocalPath(Path(text).expanduser())
    if text in starters:
        return StarterName(text)
    if not re.search(r"\s", text) and _PATHLIKE.match(text):
        raise InstallError(_no_path(text, local))
    found = _hub_text(text)
    if found and local and not found.path and has_model_suffix(text):
        raise InstallError(_no_path(text, local))
    return found or _raise_unknown(text, starters, local)


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def _no_path(text: str, local: bool) -> str:
    if local:
        return f"{text}: there is no such file or folder."
    return f"{text} is a path. A request names addresses, repositories and starter models: put the file itself here."


def _raise_unknown(text: str, starters: Collection[str], local: bool) -> Source:
    meant = nearest(text, list(starters))
    hint = f" Did you mean {meant}?" if meant else ""
    kinds = "an address (https://…), a repository (owner/name) or a starter model"
    raise NotASource(f"{_shown(text)} is neither {'a path, ' if local else ''}{kinds}.{hint}")


def _shown(text: str) -> str:
    """A text that may hold anything, for a message."""
    return repr(text if len(text) <= 80 else f"{text[:77]}…")


def _hub_text(text: str) -> HubModel | None:
    matched = _HUB_TEXT.fullmatch(text)
    if not matched or not _is_repository(matched[1]):
        return None
    repo, revision, rest = matched[1], matched[2], matched[3] or ""
    first, colon, after = rest.partition(":")
    variant, path = (first, after) if first in VARIANTS else (None, rest)
    if colon and variant is None:
        raise InstallError(f"{text}: {first} is no variant. Write owner/repo:path, or owner/repo:fp16:path.")
    return _hub_model(text, repo, revision, variant, path)


def _hub_model(text: str, repo: str, revision: str | None, variant: str | None, path: str) -> HubModel:
    path = path.strip("/")
    parts = path.split("/")
    if (path and any(part in ("", ".", "..") for part in parts)) or "\\" in path or not path.isprintable():
        raise InstallError(f"{text}: {_shown(path)} is no path in a repository.")
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise InstallError(f"{text}: {_shown(revision)} is no branch, tag or commit.")
    return HubModel(repo, revision, variant, path)


def _is_repository(text: str) -> bool:
    return bool(_REPOSITORY.fullmatch(text)) and "--" not in text and ".." not in text


def _address(text: str, scheme: str, hub_hosts: Collection[str]) -> Source:
    if scheme not in ("http", "https"):
        raise InstallError(f"{text}: {scheme}:// is not fetched; only http:// and https:// are.")
    try:
        parts = urlsplit(text)
        host, _ = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise InstallError(f"{text} is no valid address: {error}.") from error
    if not host:
        raise InstallError(f"{text} names no host.")
    if host in hub_hosts or parts.netloc.lower() in hub_hosts:
        return _hub_page(text, unquote(parts.path))
    if host in _CIVITAI_HOSTS and (shown := _CIVITAI_PAGE.fullmatch(parts.path)):
        version = parse_qs(parts.query).get("modelVersionId", [""])[0]
        return CivitaiModel(shown[1], version if version.isascii() and version.isdecimal() else None)
    # With a query it chooses one of several files, of which only the address knows.
    if host in _CIVITAI_HOSTS and not parts.query and (shown := _CIVITAI_FILE.fullmatch(parts.path)):
        return CivitaiModel(None, shown[1])
    if host in ("github.com", "www.github.com") and (shown := _GITHUB_FILE.fullmatch(parts.path)):
        return WebFile(f"https://github.com/{shown[1]}/{shown[2]}/raw/{shown[3]}")
    return WebFile(parts._replace(fragment="").geturl())


def _hub_page(text: str, path: str) -> HubModel:
    """The repository, folder or file that a page of the hub shows."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] in (["datasets"], ["spaces"]):
        raise InstallError(f"{text} shows a {parts[0][:-1]}, not a model.")
    if len(parts) < 2 or not _is_repository("/".join(parts[:2])):
        raise InstallError(f"{text} shows no model: its address should be https://huggingface.co/owner/name.")
    repo, rest = "/".join(parts[:2]), parts[2:]
    if rest[:1] not in (["tree"], ["blob"], ["resolve"], ["raw"]):
        return HubModel(repo)
    # Pull requests are the only references with slashes that pages show.
    length = 3 if rest[1:3] == ["refs", "pr"] else 1
    revision = "/".join(rest[1 : 1 + length]) or "main"
    return _hub_model(text, repo, None if revision == "main" else revision, None, "/".join(rest[1 + length :]))


def shown_url(url: str) -> str:
    """An address as it may be written down: without a password, and without parameters that are secrets."""
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(key, value) for key, value in pairs if not any(part in key.lower() for part in _SECRET_PARTS)]
    query = parts.query if len(kept) == len(pairs) else urlencode(kept)
    return parts._replace(netloc=netloc, query=query, fragment="").geturl()


def shown(source: Source) -> str:
    """A source as it may be written down."""
    return shown_url(source.url) if isinstance(source, WebFile) else str(source)
