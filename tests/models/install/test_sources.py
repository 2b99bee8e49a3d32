"""What a text means is decided by its form alone, and prose never means anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invokeai_daemon.errors import InstallError, NotASource
from invokeai_daemon.models.install.sources import CivitaiModel, HubModel, LocalPath, StarterName, WebFile, parse_source

STARTERS = ("stable-diffusion-1.5", "d&d-diffusion-1.0")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("https://example.org/a/cat.safetensors", WebFile("https://example.org/a/cat.safetensors")),
        (" https://example.org/cat?x=1#top ", WebFile("https://example.org/cat?x=1")),
        ("HTTP://example.org/cat.ckpt", WebFile("http://example.org/cat.ckpt")),
        ("XpucT/Deliberate", HubModel("XpucT/Deliberate")),
        ("a/b.c_d-e", HubModel("a/b.c_d-e")),
        ("a/b:unet", HubModel("a/b", path="unet")),
        ("a/b:sub/cat.safetensors", HubModel("a/b", path="sub/cat.safetensors")),
        ("a/b::cat.safetensors", HubModel("a/b", path="cat.safetensors")),
        ("a/b:fp16", HubModel("a/b", variant="fp16")),
        ("a/b:fp16:unet", HubModel("a/b", variant="fp16", path="unet")),
        ("a/b:fp16/", HubModel("a/b", path="fp16")),
        ("a/b@v2:unet", HubModel("a/b", "v2", path="unet")),
        ("a/b@refs/pr/3", HubModel("a/b", "refs/pr/3")),
        ("https://huggingface.co/a/b", HubModel("a/b")),
        ("https://huggingface.co/a/b/", HubModel("a/b")),
        ("https://hf.co/a/b/tree/main", HubModel("a/b")),
        ("https://huggingface.co/a/b/tree/v2/unet", HubModel("a/b", "v2", path="unet")),
        ("https://huggingface.co/a/b/tree/refs%2Fpr%2F3/unet", HubModel("a/b", "refs/pr/3", path="unet")),
        ("https://huggingface.co/a/b/blob/main/x/cat.ckpt", HubModel("a/b", path="x/cat.ckpt")),
        ("https://huggingface.co/a/b/resolve/main/c%20t.ckpt?download=true", HubModel("a/b", path="c t.ckpt")),
        ("https://civitai.com/models/78605/ink-scenery-or?modelVersionId=83390", CivitaiModel("78605", "83390")),
        ("https://civitai.com/models/78605/ink-scenery-or", CivitaiModel("78605", None)),
        ("https://civitai.com/models/78605?modelVersionId=x", CivitaiModel("78605", None)),
        ("https://civitai.com/api/download/models/83390", CivitaiModel(None, "83390")),
        (
            "https://civitai.com/api/download/models/83390?type=VAE",
            WebFile("https://civitai.com/api/download/models/83390?type=VAE"),
        ),
        ("https://github.com/o/r/blob/v1/w/4x.pth", WebFile("https://github.com/o/r/raw/v1/w/4x.pth")),
        ("stable-diffusion-1.5", StarterName("stable-diffusion-1.5")),
        ("d&d-diffusion-1.0", StarterName("d&d-diffusion-1.0")),
    ],
)
def test_a_text_means_one_thing(text: str, meant: object) -> None:
    assert parse_source(text, STARTERS) == meant


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("file:///etc/passwd", "file:// is not fetched"),
        ("ftp://example.org/cat.ckpt", "ftp:// is not fetched"),
        ("http:///cat", "names no host"),
        ("http://[::1/cat", "no valid address"),
        ("http://a:99999/cat", "no valid address"),
        ("/etc/passwd", "is a path"),
        ("../cat.ckpt", "is a path"),
        ("~/cat.ckpt", "is a path"),
        ("C:\\models\\cat.ckpt", "is a path"),
        ("a/b:../secret", "no path in a repository"),
        ("a/b:x//y", "no path in a repository"),
        ("a/b@../x", "no branch, tag or commit"),
        ("a/b:onnx:unet", "onnx is no variant"),
        ("https://huggingface.co/datasets/a/b", "shows a dataset"),
        ("https://huggingface.co/models", "shows no model"),
    ],
)
def test_what_is_meant_and_cannot_be_fetched_says_why(text: str, why: str) -> None:
    with pytest.raises(InstallError, match=why) as caught:
        parse_source(text, STARTERS)
    assert not isinstance(caught.value, NotASource)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cat",
        "This model is licensed under",
        "see https://example.org for more",
        "a/b/c",
        "and / or",
        "x\ny",
        "a\0b",
    ],
)
def test_prose_means_nothing(text: str) -> None:
    with pytest.raises(NotASource):
        parse_source(text, STARTERS)


def test_a_starter_that_is_misspelt_gets_a_hint() -> None:
    with pytest.raises(NotASource, match=r"Did you mean stable-diffusion-1\.5\?"):
        parse_source("stable-difusion-1.5", STARTERS)


def test_paths_mean_something_only_where_they_may(tmp_path: Path) -> None:
    file = tmp_path / "cat.ckpt"
    file.touch()
    assert parse_source(str(file), local=True) == LocalPath(file)
    with pytest.raises(InstallError, match="is a path"):
        parse_source(str(file))
    with pytest.raises(InstallError, match="no such file or folder"):
        parse_source(str(tmp_path / "dog.ckpt"), local=True)
    with pytest.raises(InstallError, match="no such file or folder"):
        parse_source("models/dog.ckpt", local=True)


def test_a_path_that_is_there_goes_before_a_repository_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert parse_source("a/b", local=True) == LocalPath(Path("a/b"))
    assert parse_source("a/b") == HubModel("a/b")


def test_pages_of_the_hub_of_the_settings_are_known() -> None:
    found = parse_source("http://hub.lan:8080/a/b/tree/v2", hub_hosts={"hub.lan:8080"})
    assert found == HubModel("a/b", "v2")


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._]{0,10}", fullmatch=True).filter(lambda name: ".." not in name)
MODELS = st.builds(
    HubModel,
    repo=st.builds("{}/{}".format, NAMES, NAMES),
    revision=st.none() | NAMES,
    variant=st.none() | st.sampled_from(["fp16", "fp32", "bf16"]),
    path=st.lists(NAMES, max_size=3).map("/".join),
)


CIVITAI = st.integers(0, 10**9).map(str)


@given(MODELS | st.builds(CivitaiModel, CIVITAI, st.none() | CIVITAI) | st.builds(CivitaiModel, st.none(), CIVITAI))
def test_what_a_source_is_written_as_means_that_source(model: HubModel | CivitaiModel) -> None:
    assert parse_source(str(model)) == model


@given(st.text() | st.from_regex(r"(https?|file)://[^ ]{0,40}|[a-z]/[a-z][:@][^ ]{0,20}", fullmatch=True))
def test_any_text_is_a_source_or_an_error_and_never_a_path(text: str) -> None:
    try:
        found = parse_source(text, STARTERS)
    except InstallError:
        return
    assert not isinstance(found, LocalPath)
    if isinstance(found, HubModel):
        assert not {"..", "."} & set(found.path.split("/")) and not found.path.startswith("/")
    assert parse_source(str(found), STARTERS) == found
