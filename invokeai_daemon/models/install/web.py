"""Web: one HTTP request, through its redirects, to hosts that may be asked. Large answers are read by who asked.

Redirects are followed here, one by one, because each leads to a host that has its own token and must be allowed.
Proxies of the environment (HTTPS_PROXY, NO_PROXY) are used.
"""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from invokeai_daemon import __version__
from invokeai_daemon.errors import FetchInterrupted, InstallError
from invokeai_daemon.models.install.addresses import check_peer, refusal
from invokeai_daemon.models.install.sources import shown_url
from invokeai_daemon.models.install.tokens import Tokens, advice

MAX_REDIRECTS = 10
_REDIRECTS = {301, 302, 303, 307, 308}
#: Answers that may be others later.
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
LONGEST_WAIT = 3600.0

Response = urllib3.HTTPResponse


class Web:
    """Asks hosts, with the tokens and the limits of the settings."""

    def __init__(self, tokens: Tokens, timeout: float, allow_private: bool, trusted: frozenset[str]) -> None:
        #: host:port of servers that the settings name: they may be private.
        self._tokens, self._timeout, self._trusted = tokens, timeout, trusted
        self._allow_private = allow_private
        self._managers: dict[tuple[str, bool], urllib3.PoolManager] = {}

    @contextmanager
    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[tuple[Response, str]]:
        """The answer to a GET and the address that it came from, its body unread: 200, or to a range 206 or 416.

        Raises FetchInterrupted for what may pass, InstallError for what will not.
        """
        response, final = self._followed(url, dict(headers or {}))
        try:
            yield response, final
        finally:
            # What was not read is not worth keeping the connection for.
            response.close()
            response.release_conn()

    def content(self, url: str, most: int) -> bytes:
        """The first `most` bytes of a small answer. Raises as `open` does."""
        with self.open(url) as (response, _):
            try:
                return response.read(most)
            except urllib3.exceptions.HTTPError as error:
                raise FetchInterrupted(f"{shown_url(url)}: {reason(error)}.") from error

    def _followed(self, url: str, headers: dict[str, str]) -> tuple[Response, str]:
        here, was_encrypted = url, False
        for _ in range(MAX_REDIRECTS + 1):
            is_downgraded = was_encrypted and urlsplit(here).scheme != "https"
            was_encrypted = urlsplit(here).scheme == "https"
            response = self._asked(here, headers | ({} if is_downgraded else self._authorization(here, url)))
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                _check_status(response, here, url)
                return response, here
            response.close()
            here = _next(here, location)
        raise InstallError(f"{shown_url(url)} leads from one address to another without end.")

    def _authorization(self, here: str, asked: str) -> dict[str, str]:
        """A host's own token; a name and password of the address only go to the host that they were written for."""
        token = self._tokens.token_for(here)
        if token:
            return {"Authorization": f"Bearer {token}"}
        parts, first = urlsplit(here), urlsplit(asked)
        same_host = (parts.hostname, parts.port, parts.scheme) == (first.hostname, first.port, first.scheme)
        if same_host and first.username:
            login = f"{unquote(first.username)}:{unquote(first.password or '')}"
            return dict(urllib3.make_headers(basic_auth=login))
        return {}

    def _asked(self, url: str, headers: dict[str, str]) -> Response:
        parts = urlsplit(url)
        host = parts.hostname or ""
        sent = {"User-Agent": f"invokeai-daemon/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
        try:
            response = self._manager(parts.scheme, host, parts.port).request(
                "GET",
                plain,
                headers=sent | headers,
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(connect=min(self._timeout, 30.0), read=self._timeout),
            )
        except urllib3.exceptions.LocationValueError as error:
            raise InstallError(f"{shown_url(url)} is no valid address: {error}.") from error
        except urllib3.exceptions.HTTPError as error:
            raise FetchInterrupted(f"{host}: {reason(error)}.") from error
        assert isinstance(response, Response)
        return response

    def _manager(self, scheme: str, host: str, port: int | None) -> urllib3.PoolManager:
        is_trusted = f"{host}:{port or (443 if scheme == 'https' else 80)}" in self._trusted
        allow_private = self._allow_private or is_trusted
        proxy = urllib.request.getproxies().get(scheme, "")
        if proxy and urllib.request.proxy_bypass(host):
            proxy = ""
        key = (proxy, allow_private)
        if proxy:
            _check_name(host, allow_private)
        if key not in self._managers:
            self._managers[key] = urllib3.ProxyManager(proxy) if proxy else _guarded(allow_private)
        return self._managers[key]


def reason(error: BaseException) -> str:
    """Why a request failed, in plain words."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException) and not isinstance(error, urllib3.exceptions.NameResolutionError):
        return reason(inner)
    match error:
        case urllib3.exceptions.NameResolutionError():
            return "no address is known for this name: is this machine online?"
        case urllib3.exceptions.NewConnectionError():
            return f"no connection: {_last_part(error)}"
        case urllib3.exceptions.ConnectTimeoutError():
            return "it does not answer"
        case urllib3.exceptions.ReadTimeoutError():
            return "it fell silent"
        case urllib3.exceptions.SSLError():
            return f"its encryption cannot be trusted: {_last_part(error)}"
        case urllib3.exceptions.IncompleteRead() | urllib3.exceptions.ProtocolError():
            return "the connection broke off"
    return str(error) or type(error).__name__


def _last_part(error: BaseException) -> str:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(error).rpartition(": ")[2].strip("')(")


def _next(here: str, location: str) -> str:
    """Where a redirect leads. Raises InstallError when that is not the web."""
    try:
        there = urljoin(here, location)
        parts = urlsplit(there)
        host = parts.hostname
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise InstallError(f"{shown_url(here)} leads to an address that is not fetched: {location[:200]!r}.")
    return there


def _check_status(response: Response, here: str, asked: str) -> None:
    status = response.status
    if status in (200, 206, 416):
        return
    what = shown_url(asked)
    host = urlsplit(here).hostname
    response.close()
    if status in (401, 403):
        raise InstallError(f"{what}: {host} refuses it ({status}): it wants to know who asks. {advice(here)}")
    if status in (404, 410):
        raise InstallError(f"{what}: {host} has no such file ({status}). Private ones need a token. {advice(here)}")
    if status in _TEMPORARY:
        raise FetchInterrupted(f"{what}: {host} cannot answer now ({status}).", _retry_after(response))
    raise InstallError(f"{what}: {host} answered with the code {status}.")


def _retry_after(response: Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return min(LONGEST_WAIT, float(text)) if text.isdecimal() else None


def _check_name(host: str, allow_private: bool) -> None:
    """Behind a proxy the connection says nothing of the host: its name is asked, where names are known at all."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return
    for *_, address in found:
        check_peer(host, str(address[0]), allow_private)


def _guarded(allow_private: bool) -> urllib3.PoolManager:
    """A pool whose connections look at whom they reached before they say anything."""

    def checked(connection: HTTPConnection, opened: socket.socket) -> socket.socket:
        peer = str(opened.getpeername()[0])
        if refusal(peer, allow_private):
            opened.close()
            check_peer(connection.host, peer, allow_private)
        return opened

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return checked(self, super()._new_conn())

    class Encrypted(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return checked(self, super()._new_conn())

    class PlainPool(HTTPConnectionPool):
        ConnectionCls: Any = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls: Any = Encrypted

    manager = urllib3.PoolManager(num_pools=4, maxsize=1)
    manager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}
    return manager
