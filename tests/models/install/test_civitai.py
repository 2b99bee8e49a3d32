"""A page of civitai.com gives its file, checked, in the folder of its type, with the words that make it work."""

from __future__ import annotations

import hashlib
import json
import tomllib
from typing import Any

import pytest

from invokeai_daemon.errors import FetchInterrupted, InstallError
from invokeai_daemon.models.install import civitai
from invokeai_daemon.models.install.fetch import Arrival, Order
from invokeai_daemon.models.install.sources import CivitaiModel
from invokeai_daemon.models.sidecar import read_sidecar
from invokeai_daemon.root import Root
from tests.models.install.conftest import MakeFetcher
from tests.models.install.servers import FileServer, Page, weights

INK = weights(2_000)


def version(**changed: Any) -> dict[str, Any]:
    main = {"name": "ink.safetensors", "primary": True, "hashes": {"SHA256": hashlib.sha256(INK).hexdigest().upper()}}
    facts = {"id": 83390, "modelId": 78605, "name": "v1", "trainedWords": ["shuimo \n style", "ink, ", "ink", 7, ""]}
    return facts | {"files": [{"name": "other.zip", "hashes": {}}, main]} | changed


@pytest.fixture
def site(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """A server in the place of civitai.com, which has one model."""
    monkeypatch.setattr(civitai, "ENDPOINT", server.url)
    model = {"name": "Ink\x07 scenery", "type": "LORA"}
    server.pages["/api/v1/model-versions/83390"] = _json(version(model=model))
    server.pages["/api/v1/models/78605"] = _json(model | {"id": 78605, "modelVersions": [version(), version(id=1)]})
    header = {"Content-Disposition": 'attachment; filename="ink.safetensors"'}
    server.pages["/api/download/models/83390"] = Page(INK, header)
    return server


def _json(facts: object) -> Page:
    return Page(json.dumps(facts).encode(), {"Content-Type": "application/json"})


@pytest.mark.parametrize(
    "source", [CivitaiModel("78605", "83390"), CivitaiModel(None, "83390"), CivitaiModel("78605", None)]
)
def test_a_page_gives_its_file_and_what_is_known_of_it(
    root: Root, site: FileServer, fetcher: MakeFetcher, source: CivitaiModel
) -> None:
    (arrival,) = fetcher().fetch(Order(source))
    assert arrival == Arrival(root.autoimport / "lora" / "ink.safetensors", False)
    assert tomllib.loads((root.autoimport / "lora" / "ink.toml").read_text()) == {
        "source_url": f"{site.url}/models/78605?modelVersionId=83390",
        "description": "Ink scenery v1",
        "trigger_phrases": ["shuimo style", "ink"],
        "hash": f"sha256:{hashlib.sha256(INK).hexdigest()}",
    }
    assert read_sidecar(arrival.path).trigger_phrases == ["shuimo style", "ink"]


def test_a_file_that_is_not_the_one_of_the_page_never_appears(
    root: Root, site: FileServer, fetcher: MakeFetcher
) -> None:
    site.pages["/api/download/models/83390"] = Page(weights(2_000, fill=9))
    with pytest.raises(InstallError, match="is not what it should be"):
        fetcher().fetch(Order(CivitaiModel(None, "83390")))
    assert not list(root.autoimport.rglob("*.safetensors"))


def test_a_version_of_which_nothing_is_told_is_fetched_nevertheless(
    root: Root, site: FileServer, fetcher: MakeFetcher
) -> None:
    del site.pages["/api/v1/model-versions/83390"]
    (arrival,) = fetcher().fetch(Order(CivitaiModel("78605", "83390")))
    assert arrival.path == root.autoimport / "installed" / "ink.safetensors"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Page(statuses=[503]), FetchInterrupted),
        (Page(b"<html>"), FetchInterrupted),
        (Page(statuses=[404]), InstallError),
        (_json({"modelVersions": []}), InstallError),
        (_json([]), InstallError),
        (_json({"modelVersions": [{"id": "../../x"}]}), InstallError),
    ],
)
def test_a_page_that_tells_nothing_is_an_error(
    site: FileServer, fetcher: MakeFetcher, answer: Page, error: type[Exception]
) -> None:
    site.pages["/api/v1/models/78605"] = answer
    with pytest.raises(error):
        fetcher().fetch(Order(CivitaiModel("78605", None)))


def test_a_broken_checksum_is_no_checksum(root: Root, site: FileServer, fetcher: MakeFetcher) -> None:
    site.pages["/api/v1/model-versions/83390"] = _json(version(files=[{"primary": True, "hashes": {"SHA256": "x"}}]))
    assert fetcher().fetch(Order(CivitaiModel(None, "83390")))[0].path.read_bytes() == INK
