"""Servers on 127.0.0.1: files as web hosts serve them, with all that can go wrong, and a hub that speaks enough."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


def weights(size: int = 1000, fill: int = 7) -> bytes:
    """A small file in the safetensors format with one tensor of `size` bytes."""
    tensor = {"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    header = json.dumps(tensor).encode()
    return struct.pack("<Q", len(header)) + header + bytes([fill]) * size


@dataclass
class Page:
    """What one path answers."""

    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    #: Codes of the first answers; then 200.
    statuses: list[int] = field(default_factory=list)
    #: Where to send whoever asks.
    redirect: str = ""
    #: What the Authorization header must be.
    authorization: str = ""
    #: The first answers end after so many bytes of their body, though they promised all.
    breaks: list[int] = field(default_factory=list)
    etag: str = '"1"'
    ranges: bool = True
    #: Say no length, and close in the end.
    no_length: bool = False
    #: Seconds before each piece of 1000 bytes.
    slow: float = 0.0


@dataclass
class Asked:
    """A request that came."""

    path: str
    headers: dict[str, str]


class FileServer:
    """Pages by path, and who asked for them."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[Asked] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked_for(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path]

    def page(self, path: str) -> Page | None:
        return self.pages.get(path)


@contextmanager
def served(server: FileServer) -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, server)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that goes away is no error here."""

    httpd = Quiet(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def answer(request: BaseHTTPRequestHandler, server: FileServer) -> None:
    path = unquote(urlsplit(request.path).path)
    headers = {key.lower(): value for key, value in request.headers.items()}
    server.asked.append(Asked(path, headers))
    page = server.page(path)
    if page is None:
        _plain(request, 404, {})
    elif page.authorization and headers.get("authorization") != page.authorization:
        _plain(request, 401, {})
    elif page.statuses:
        _plain(request, page.statuses.pop(0), page.headers)
    elif page.redirect:
        _plain(request, 302, {"Location": page.redirect})
    else:
        _content(request, page, headers)


def _plain(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
    request.send_response(status)
    for key, value in {"Content-Length": "0", **headers}.items():
        request.send_header(key, value)
    request.end_headers()


def _content(request: BaseHTTPRequestHandler, page: Page, headers: dict[str, str]) -> None:
    begin, total = 0, len(page.content)
    wanted = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
    if wanted and page.ranges and headers.get("if-range", page.etag) == page.etag:
        begin = int(wanted[1])
        if begin >= total:
            _plain(request, 416, {"Content-Range": f"bytes */{total}"})
            return
    request.send_response(206 if begin else 200)
    said = {"Content-Type": "application/octet-stream", "ETag": page.etag}
    if begin:
        said["Content-Range"] = f"bytes {begin}-{total - 1}/{total}"
    said |= {"Connection": "close"} if page.no_length else {"Content-Length": str(total - begin)}
    for key, value in {**said, **page.headers}.items():
        if value:
            request.send_header(key, value)
    request.end_headers()
    end = begin + page.breaks.pop(0) if page.breaks else total
    for start in range(begin, min(end, total), 1000):
        time.sleep(page.slow)
        request.wfile.write(page.content[start : min(start + 1000, end)])
    if end < total or page.no_length:
        request.wfile.flush()
        request.close_connection = True


class HubServer(FileServer):
    """A hub: repositories of files at one commit, and what the hub's client asks of them."""

    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self) -> None:
        super().__init__()
        self.repos: dict[str, dict[str, bytes]] = {}
        self.cards: dict[str, dict[str, Any]] = {}
        self.tags: dict[str, list[str]] = {}
        #: What the Authorization header must be, by repository.
        self.private: dict[str, str] = {}

    def page(self, path: str) -> Page | None:
        """A page that was set, else an answer of the hub."""
        if path in self.pages:
            return self.pages[path]
        info = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
        if info:
            return self._info(info[1], info[2])
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        content = self.repos.get(found[1], {}).get(found[3]) if found else None
        if found is None or content is None:
            return None
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        self.pages[path] = Page(content, etag=etag, authorization=self.private.get(found[1], ""))
        return self.pages[path]

    def _info(self, repo: str, revision: str | None) -> Page | None:
        if repo not in self.repos:
            return Page(statuses=[404], headers={"X-Error-Code": "RepoNotFound"})
        if revision not in (None, "main", "v2", self.COMMIT):
            return Page(statuses=[404], headers={"X-Error-Code": "RevisionNotFound"})
        siblings = [_sibling(name, content) for name, content in sorted(self.repos[repo].items())]
        facts = {"id": repo, "modelId": repo, "sha": self.COMMIT, "siblings": siblings, "private": False}
        facts |= {"tags": self.tags.get(repo, []), "cardData": self.cards.get(repo, {}), "downloads": 0, "likes": 0}
        content = json.dumps(facts).encode()
        headers = {"Content-Type": "application/json"}
        return Page(content, headers, authorization=self.private.get(repo, ""))


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    """Weights are kept by LFS, the rest by git, as the hub does."""
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    sibling: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git}
    if name.endswith((".safetensors", ".bin", ".ckpt")):
        sibling["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 134}
    return sibling
