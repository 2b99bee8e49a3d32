"""Repositories come whole and checked from a hub that speaks the hub's language, and go on where they stopped."""

from __future__ import annotations

import json
import tomllib

import pytest

from invokeai_daemon.errors import FetchInterrupted, InstallError
from invokeai_daemon.models.install.fetch import Arrival, Fetcher, Order
from invokeai_daemon.models.install.sources import LocalPath
from invokeai_daemon.root import Root
from tests.models.install.conftest import MakeFetcher
from tests.models.install.servers import HubServer, Page, weights

INDEX = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "U"], "vae": ["diffusers", "V"]}
DOG = {
    "model_index.json": json.dumps(INDEX).encode(),
    "README.md": b"# Dog",
    "LICENSE.md": b"free",
    "unet/config.json": b'{"in_channels": 4}',
    "unet/diffusion_pytorch_model.safetensors": weights(20_000),
    "unet/diffusion_pytorch_model.fp16.safetensors": weights(10_000),
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": weights(5_000),
    "onnx/model.safetensors": weights(3_000),
    "dog.safetensors": weights(40_000),
}
KEPT = [
    "LICENSE.md",
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]


def fetch(fetcher: Fetcher, text: str, **more: object) -> list[Arrival]:
    source = fetcher.parse(text)
    assert not isinstance(source, LocalPath)
    return fetcher.fetch(Order(source, **more))  # type: ignore[arg-type]


@pytest.fixture
def from_hub(hub: HubServer, fetcher: MakeFetcher) -> MakeFetcher:
    """A hub that the settings name needs no other permission, though it is at a private address."""
    hub.repos["me/dog"] = dict(DOG)
    return lambda **more: fetcher(**({"hub_endpoint": hub.url, "allow_private": False} | more))


def test_a_repository_becomes_a_folder_of_one_set_of_weights(root: Root, from_hub: MakeFetcher, hub: HubServer) -> None:
    told: list[tuple[int, int | None]] = []
    fetcher = from_hub(tell=lambda name, done, total: told.append((done, total)))
    assert fetch(fetcher, "me/dog") == [Arrival(root.autoimport / "main" / "dog", False)]
    folder = root.autoimport / "main" / "dog"
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == KEPT
    assert all((folder / name).read_bytes() == DOG[name] for name in KEPT)
    assert tomllib.loads((root.autoimport / "main" / "dog.toml").read_text()) == {"source_url": f"{hub.url}/me/dog"}
    total = sum(len(DOG[name]) for name in KEPT)
    assert told[-1] == (total, total)
    assert not list(root.autoimport.rglob(".downloads"))


def test_a_repository_that_is_there_is_not_fetched_again(root: Root, from_hub: MakeFetcher, hub: HubServer) -> None:
    fetch(from_hub(), "me/dog")
    before = len(hub.asked)
    assert fetch(from_hub(), "me/dog") == [Arrival(root.autoimport / "main" / "dog", True)]
    assert [one.path.rpartition("/")[2] for one in hub.asked[before:]] == ["dog", "model_index.json"]


def test_a_repository_goes_on_where_it_stopped(root: Root, from_hub: MakeFetcher, hub: HubServer) -> None:
    unet = f"/me/dog/resolve/{hub.COMMIT}/{KEPT[3]}"
    page = hub.page(unet)
    assert page is not None
    page.breaks = [4_000]
    with pytest.raises(FetchInterrupted):
        fetch(from_hub(retries=0), "me/dog")
    assert not (root.autoimport / "main" / "dog").exists()
    fetch(from_hub(), "me/dog")
    assert [one.headers.get("range") for one in hub.asked_for(unet)] == [None, "bytes=4000-"]
    assert len(hub.asked_for(f"/me/dog/resolve/{hub.COMMIT}/unet/config.json")) == 1


def test_another_folder_of_the_name_gets_a_number(root: Root, from_hub: MakeFetcher) -> None:
    (root.autoimport / "main" / "dog").mkdir()
    (root.autoimport / "main" / "dog" / "mine.txt").write_text("mine")
    assert fetch(from_hub(), "me/dog") == [Arrival(root.autoimport / "main" / "dog-2", False)]
    assert (root.autoimport / "main" / "dog-2.toml").exists()


@pytest.mark.parametrize("name", ["unet/config.json", KEPT[3]])
def test_what_the_hub_describes_otherwise_never_appears(
    root: Root, from_hub: MakeFetcher, hub: HubServer, name: str
) -> None:
    """Large files have a sha256, small ones git's sha1."""
    wrong = bytes(reversed(DOG[name]))
    hub.pages[f"/me/dog/resolve/{hub.COMMIT}/{name}"] = Page(wrong)
    with pytest.raises(InstallError, match="is not what it should be"):
        fetch(from_hub(), "me/dog")
    assert not (root.autoimport / "main" / "dog").exists()


def test_a_file_of_another_length_is_refused(from_hub: MakeFetcher, hub: HubServer) -> None:
    hub.pages[f"/me/dog/resolve/{hub.COMMIT}/unet/config.json"] = Page(b"{}")
    with pytest.raises(InstallError, match="the server has 2 bytes, where 18 should be"):
        fetch(from_hub(), "me/dog")


def test_a_file_and_a_revision_can_be_asked_for(root: Root, from_hub: MakeFetcher, hub: HubServer) -> None:
    fetch(from_hub(), "me/dog@v2:dog.safetensors", folder=root.autoimport / "lora")
    assert (root.autoimport / "lora" / "dog.safetensors").read_bytes() == DOG["dog.safetensors"]
    sidecar = tomllib.loads((root.autoimport / "lora" / "dog.toml").read_text())
    assert sidecar["source_url"] == f"{hub.url}/me/dog/tree/v2/dog.safetensors"
    assert sidecar["hash"].startswith("sha256:")
    assert hub.asked[0].path == "/api/models/me/dog/revision/v2"
    page = f"{hub.url}/me/dog/blob/main/dog.safetensors"
    assert fetch(from_hub(), page)[0].path == root.autoimport / "installed" / "dog.safetensors"


def test_a_lora_goes_to_its_folder_under_its_repositorys_name(
    root: Root, from_hub: MakeFetcher, hub: HubServer
) -> None:
    hub.repos["me/ink"] = {"pytorch_lora_weights.safetensors": weights(100), "README.md": b""}
    hub.cards["me/ink"] = {"instance_prompt": "inkscenery"}
    assert fetch(from_hub(), "me/ink") == [Arrival(root.autoimport / "lora" / "ink.safetensors", False)]
    assert tomllib.loads((root.autoimport / "lora" / "ink.toml").read_text())["trigger_phrases"] == ["inkscenery"]
    hub.repos["me/wash"] = {"wash_v2.safetensors": weights(100)}
    hub.tags["me/wash"] = ["diffusers", "lora"]
    assert fetch(from_hub(), "me/wash")[0].path == root.autoimport / "lora" / "wash_v2.safetensors"


def test_of_several_models_none_is_guessed(root: Root, from_hub: MakeFetcher, hub: HubServer) -> None:
    hub.repos["me/two"] = {"a.safetensors": weights(10), "b.safetensors": weights(10)}
    with pytest.raises(InstallError, match=r"me/two holds several models. Say which:\n  me/two:a\.safetensors"):
        fetch(from_hub(), "me/two")
    assert not list(root.autoimport.rglob("*.safetensors"))


def test_a_private_repository_needs_the_token_of_its_host(root: Root, from_hub: MakeFetcher, hub: HubServer) -> None:
    hub.private["me/dog"] = "Bearer secret"
    with pytest.raises(InstallError, match=r"\[install\] tokens = \{ \"127\.0\.0\.1\""):
        fetch(from_hub(environ={"HF_TOKEN": "of another host"}), "me/dog")
    assert not any("authorization" in asked.headers for asked in hub.asked)
    fetch(from_hub(tokens={"127.0.0.1": "secret"}), "me/dog")
    assert (root.autoimport / "main" / "dog" / "model_index.json").exists()


def test_the_token_does_not_follow_to_where_the_hub_keeps_large_files(from_hub: MakeFetcher, hub: HubServer) -> None:
    hub.private["me/dog"] = "Bearer secret"
    large = f"/me/dog/resolve/{hub.COMMIT}/{KEPT[3]}"
    hub.pages["/cdn/0123"] = Page(DOG[KEPT[3]])
    hub.pages[large] = Page(redirect=f"http://localhost:{hub.port}/cdn/0123", authorization="Bearer secret")
    fetch(from_hub(tokens={"127.0.0.1": "secret"}, allow_private=True), "me/dog")
    assert ["authorization" in one.headers for one in hub.asked_for("/cdn/0123")] == [False]


def test_only_the_hub_of_the_settings_may_be_at_a_private_address(from_hub: MakeFetcher, hub: HubServer) -> None:
    large = f"/me/dog/resolve/{hub.COMMIT}/{KEPT[3]}"
    hub.pages[large] = Page(redirect=f"http://localhost:{hub.port}/cdn/0123")
    with pytest.raises(InstallError, match=r"localhost: 127\.0\.0\.1 is an address of this machine"):
        fetch(from_hub(), "me/dog")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("me/cat", "has no such repository, or only for some"),
        ("me/dog@v9", "the repository has no v9"),
        ("me/dog:nothing", "has no folder or file nothing"),
    ],
)
def test_what_the_hub_does_not_have_is_told(from_hub: MakeFetcher, text: str, why: str) -> None:
    with pytest.raises(InstallError, match=why) as caught:
        fetch(from_hub(), text)
    assert not isinstance(caught.value, FetchInterrupted)


def test_a_hub_that_is_away_or_busy_may_come_back(from_hub: MakeFetcher, hub: HubServer) -> None:
    hub.pages["/api/models/me/dog"] = Page(statuses=[503] * 3)
    with pytest.raises(FetchInterrupted, match=r"cannot answer now \(503\)"):
        fetch(from_hub(), "me/dog")
    with pytest.raises(FetchInterrupted, match=r"cannot be reached .* Is this machine online\?"):
        fetch(from_hub(hub_endpoint="http://127.0.0.1:1"), "me/dog")


def test_a_hub_that_is_busy_for_a_moment_is_asked_again(root: Root, from_hub: MakeFetcher, hub: HubServer) -> None:
    page = hub.page("/api/models/me/dog")
    assert page is not None
    page.statuses = [503, 429]
    hub.pages["/api/models/me/dog"] = page
    assert fetch(from_hub(), "me/dog") == [Arrival(root.autoimport / "main" / "dog", False)]


def test_names_that_lead_elsewhere_are_left_out(root: Root, from_hub: MakeFetcher, hub: HubServer) -> None:
    evil = {"unet/../../../evil.json": b"{}", "/abs.json": b"{}", "unet\\x.json": b"{}"}
    hub.repos["me/dog"] |= evil
    fetch(from_hub(), "me/dog")
    folder = root.autoimport / "main" / "dog"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == KEPT


# -- starters ----------------------------------------------------------------------------------------------------------

STARTERS = """\
dog-1.0:
  description: A dog
  repo_id: gone/dog
  mirrors: [me/dog]
  trigger_phrases: [woof]
  format: diffusers
  vae:
    repo_id: me/vae
  recommended: true
broken:
  description: It names nothing
"""


def test_a_starter_comes_from_the_first_place_that_has_it_with_its_vae(
    root: Root, from_hub: MakeFetcher, hub: HubServer
) -> None:
    (root.configs / "INITIAL_MODELS.yaml").write_text(STARTERS)
    hub.repos["me/vae"] = {"config.json": b"{}", "diffusion_pytorch_model.safetensors": weights(100)}
    fetcher = from_hub()
    assert list(fetcher.starters) == ["dog-1.0"]
    assert fetch(fetcher, "dog-1.0") == [
        Arrival(root.autoimport / "main" / "dog", False),
        Arrival(root.autoimport / "vae" / "vae", False),
    ]
    sidecar = tomllib.loads((root.autoimport / "main" / "dog.toml").read_text())
    assert sidecar == {
        "name": "dog-1.0",
        "description": "A dog",
        "trigger_phrases": ["woof"],
        "source_url": f"{hub.url}/me/dog",
    }


def test_a_starter_that_is_nowhere_says_where_it_was_looked_for(
    root: Root, from_hub: MakeFetcher, hub: HubServer
) -> None:
    (root.configs / "INITIAL_MODELS.yaml").write_text(STARTERS)
    hub.repos.clear()
    with pytest.raises(InstallError, match=r"gone/dog: .*\nme/dog: "):
        fetch(from_hub(), "dog-1.0")
