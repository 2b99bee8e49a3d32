"""A file server and a hub for each test, and what fetches from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from invokeai_daemon.models.install.fetch import Fetcher
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from tests.models.install.servers import FileServer, HubServer, served


@pytest.fixture
def server() -> Iterator[FileServer]:
    with served(FileServer()) as server:
        yield server


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    with served(server):
        yield server


MakeFetcher = Callable[..., Fetcher]


@pytest.fixture
def fetcher(root: Root) -> MakeFetcher:
    """`fetcher(retries=1, environ={…})`: what fetches into `root` with these settings, and does not wait."""

    def make(environ: dict[str, str] | None = None, tell: Any = None, **install: Any) -> Fetcher:
        quick = {"allow_private": True, "retries": 2, "timeout_seconds": 5.0} | install
        settings = Settings.model_validate({"install": quick, "limits": {"free_gb": 0.0}})
        return Fetcher(root, settings, environ or {}, tell or (lambda *_: None), pause=lambda seconds: None)

    return make
