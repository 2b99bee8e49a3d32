"""Files beside models ask for something only when that is all they do."""

from __future__ import annotations

import plistlib
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invokeai_daemon.errors import DaemonError, InstallError, SidecarError
from invokeai_daemon.models.install.checks import Checksum
from invokeai_daemon.models.install.requests import SUFFIXES, Request, read_request
from invokeai_daemon.models.install.sources import HubModel, WebFile, parse_source

CAT = WebFile("https://example.org/cat.safetensors")
parse = partial(parse_source, starters=("starter",))


def read(name: str, content: str | bytes) -> Request | None:
    return read_request(Path(name), content if isinstance(content, bytes) else content.encode(), parse)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cat.url", "[InternetShortcut]\r\nURL=https://example.org/cat.safetensors\r\nIconIndex=0\r\n"),
        ("cat.URL", "[{000214A0-0000-0000-C000-000000000046}]\nProp3=19,2\n[InternetShortcut]\nURL=" + CAT.url),
        ("cat.url", "[Desktop Entry]\nType=Link\nURL=https://example.org/cat.safetensors\n"),
        ("cat.url", "https://example.org/cat.safetensors\n"),
        ("cat.url", "\ufeffhttps://example.org/cat.safetensors"),
        ("cat.url", "[InternetShortcut]\nURL=https://example.org/cat.safetensors".encode("utf-16")),
        ("cat.webloc", plistlib.dumps({"URL": CAT.url})),
        ("cat.webloc", plistlib.dumps({"URL": CAT.url}, fmt=plistlib.FMT_BINARY)),
        ("cat.txt", "# models\n\n  https://example.org/cat.safetensors  \n"),
    ],
)
def test_a_shortcut_or_a_list_asks_for_what_it_names(name: str, content: str | bytes) -> None:
    assert read(name, content) == Request((CAT,))


def test_a_list_asks_for_each_line_once() -> None:
    found = read("list.txt", "a/b\nstarter\n# c/d\nhttps://example.org/cat.safetensors\na/b\n")
    assert found is not None
    assert list(map(str, found.sources)) == ["a/b", "starter", CAT.url]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a remark\n",
        "Copyright (c) 2023 somebody\n\nhttps://example.org/cat.safetensors\n",
        "https://example.org/cat.safetensors\nUse it with a weight of 0.8.\n",
        "#version: 0.2\ni n\nt h\na n\n",
        "masterpiece, best quality",
        "inkscenery",
        "a/b\n" * 2000,
    ],
)
def test_a_text_with_prose_in_it_asks_for_nothing(text: str) -> None:
    assert read("readme.txt", text) is None
    assert read("readme.txt", b"\xff\xfe\xfa" + text.encode("latin-1", "replace")) is None


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("cat.url", "[InternetShortcut]\nURL=file:///etc/passwd\n", "file:// is not fetched"),
        ("cat.url", "/etc/passwd", "is a path"),
        ("cat.url", "some words", "cat.url: 'some words' is neither"),
        ("cat.url", "[InternetShortcut]\nIconIndex=0\n", "without an address"),
        ("cat.url", "", "holds no address"),
        ("cat.webloc", b"<plist>", "no shortcut of macOS"),
        ("cat.webloc", plistlib.dumps(["a"]), "without an address"),
        ("cat.txt", "file:///etc/passwd\n", "file:// is not fetched"),
        ("cat.toml", 'install = "some words"', "is neither"),
        ("cat.toml", "install = ", "This is not TOML"),
        ("cat.toml", 'install = "a/b"\nnmae = "x"', "nmae: There is no such key"),
        ("cat.toml", 'install = "a/b"\nhash = "md5:00"', "is no checksum"),
    ],
)
def test_what_can_only_be_a_request_and_is_none_says_why(name: str, content: str | bytes, why: str) -> None:
    with pytest.raises((InstallError, SidecarError), match=why):
        read(name, content)


def test_a_sidecar_asks_for_its_model_only_when_it_says_so() -> None:
    assert read("cat.toml", 'name = "Cat"\nsource_url = "https://example.org"') is None
    assert read("cat.toml", 'description = "how to install it"') is None
    digest = "ab" * 32
    asked = read("cat.toml", f'install = "a/b:cat.ckpt"\nname = "Cat"\nhash = "blake3:{digest}"')
    assert asked == Request((HubModel("a/b", path="cat.ckpt"),), True, Checksum("blake3", digest))


@given(st.sampled_from(SUFFIXES), st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
def test_no_content_of_a_request_breaks_its_reader(suffix: str, content: bytes) -> None:
    try:
        found = read(f"x{suffix}", content)
    except DaemonError:
        return
    assert found is None or found.sources
