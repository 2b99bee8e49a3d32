"""Names that servers propose stay in their folder, and what is no model is known by its first bytes."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invokeai_daemon.daemon.settle import is_ignored
from invokeai_daemon.models.install.names import (
    disposition_name,
    has_model_suffix,
    proposed_name,
    safe_name,
    sniffed_suffix,
    strangeness,
)
from tests.models.install.servers import weights


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cat.safetensors", "cat.safetensors"),
        ("../../etc/cat.safetensors", "cat.safetensors"),
        ("C:\\models\\cat.ckpt", "cat.ckpt"),
        (".cat.ckpt", "cat.ckpt"),
        ("...", "model"),
        ("", "model"),
        ("c\x00a\nt\u202e.ckpt", "cat.ckpt"),
        ("cat?.ckpt", "cat_.ckpt"),
        ("cat.ckpt.part", "cat.ckpt"),
        ("con.ckpt", "_con.ckpt"),
        (" cat .ckpt. ", "cat.ckpt"),
        ("näme.ckpt", "näme.ckpt"),
        ("x" * 300 + ".safetensors", "x" * 188 + ".safetensors"),
    ],
)
def test_a_name_is_made_safe(text: str, name: str) -> None:
    assert safe_name(text) == name


@given(st.text(max_size=400))
def test_no_name_leaves_its_folder_or_hides(text: str) -> None:
    name = safe_name(text)
    assert name and "/" not in name and "\\" not in name and name not in (".", "..")
    assert len(name.encode()) <= 200 and not name.startswith(".")
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs") for char in name)
    assert safe_name(name) == name


@given(st.text(alphabet="abc.~#-", max_size=12))
def test_the_watcher_ignores_no_model_of_a_safe_name(text: str) -> None:
    assert not is_ignored(f"{safe_name(text)}.safetensors")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="cat one.ckpt"', "cat one.ckpt"),
        ("attachment; filename=cat.ckpt; x=y", "cat.ckpt"),
        ("attachment; filename=old.ckpt; filename*=UTF-8''n%C3%A4me.ckpt", "näme.ckpt"),
        ('inline; filename="n\xc3\xa4me.ckpt"', "näme.ckpt"),
        ('attachment; filename="say \\"cat\\".ckpt"', 'say "cat".ckpt'),
        ("attachment; filename*=klingon''%C3; filename=cat.ckpt", "cat.ckpt"),
        ("attachment", None),
        ("", None),
    ],
)
def test_the_name_in_a_header_is_read_as_browsers_do(header: str, name: str | None) -> None:
    assert disposition_name(header) == name


@pytest.mark.parametrize(
    ("header", "asked", "answered", "name"),
    [
        ('attachment; filename="cat.ckpt"', "https://a/x.bin", "https://b/y.bin", "cat.ckpt"),
        ("", "https://a/cat.ckpt?x=1", "https://cdn/0123abc", "cat.ckpt"),
        ("", "https://a/download/83390", "https://cdn/cat.ckpt?sig=1", "cat.ckpt"),
        ("", "https://a/download/83390", "https://cdn/0123abc", "83390"),
        ('attachment; filename="/"', "https://a/", "https://a/", "model"),
    ],
)
def test_a_file_is_called_as_its_server_says_or_as_an_address_shows(
    header: str, asked: str, answered: str, name: str
) -> None:
    assert proposed_name(header, asked, answered) == name


@pytest.mark.parametrize(
    ("head", "suffix"),
    [
        (weights(), ".safetensors"),
        (b"GGUF\3\0\0\0", ".gguf"),
        (b"PK\x03\x04" + b"\0" * 26 + b"archive/data.pkl", ".ckpt"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", ".ckpt"),
        (b"PK\x03\x04" + b"\0" * 26 + b"cat.safetensors", None),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_the_first_bytes_tell_the_ending(head: bytes, suffix: str | None) -> None:
    assert sniffed_suffix(head) == suffix


@pytest.mark.parametrize(
    ("head", "kind", "what"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "text/html", 'a web page ("Sign in")'),
        (b"\n <HTML>", "application/octet-stream", "a web page"),
        (b"welcome", "text/html; charset=utf-8", "a web page"),
        (b'{"error":"Unauthorized"}', "application/json", 'a message, not a model file: {"error":"Unauthorized"}'),
        (b"<?xml version='1.0'?><Error>", "application/xml", "an XML message"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "text/plain", "a Git LFS pointer"),
        (b"PK\x03\x04" + b"\0" * 26 + b"cat.safetensors", "application/zip", "a ZIP archive"),
        (b"Rar!\x1a\x07", "", "a RAR archive"),
    ],
)
def test_what_is_no_model_is_named(head: bytes, kind: str, what: str) -> None:
    assert strangeness(head, kind).startswith(what)


@pytest.mark.parametrize("kind", ["", "text/html", "application/json", "application/octet-stream", "text/plain"])
def test_a_model_is_taken_whatever_the_server_calls_it(kind: str) -> None:
    assert strangeness(weights(), kind) == ""
    assert strangeness(b"GGUF\3\0\0\0", kind) == ""


def test_models_are_known_by_their_endings_too() -> None:
    assert has_model_suffix("Cat.SafeTensors") and not has_model_suffix("cat.zip")
