"""Machines that nobody means are not asked, however their address is written."""

from __future__ import annotations

import pytest

from invokeai_daemon.errors import InstallError
from invokeai_daemon.models.install.addresses import check_peer, refusal
from invokeai_daemon.models.install.sources import shown_url
from invokeai_daemon.models.install.tokens import Tokens, advice


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.9", "100.64.0.1", "::1", "fd12::1"]
)
def test_private_addresses_need_the_setting(address: str) -> None:
    assert "allow_private = true" in refusal(address, allow_private=False)
    assert refusal(address, allow_private=True) == ""


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.1.1",
        "100.100.100.200",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
    ],
)
def test_addresses_of_machines_own_secrets_are_never_asked(address: str) -> None:
    for allow_private in (False, True):
        assert "never asked" in refusal(address, allow_private)


@pytest.mark.parametrize("address", ["::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1", "fec0::1"])
def test_an_address_in_disguise_is_what_it_stands_for(address: str) -> None:
    assert refusal(address, allow_private=False)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_asked(address: str) -> None:
    assert refusal(address, allow_private=False) == ""


def test_a_refusal_names_the_host() -> None:
    with pytest.raises(InstallError, match=r"evil\.example: 127\.0\.0\.1 is an address of this machine"):
        check_peer("evil.example", "127.0.0.1", False)


def test_a_token_goes_to_its_own_host_only() -> None:
    tokens = Tokens.of({"Example.org": "a", "lan:8080": "b"}, {"HF_TOKEN": "c", "CIVITAI_API_KEY": "d"})
    asked = {url: tokens.token_for(url) for url in (
        "https://example.org/x", "http://example.org/x", "https://cdn.example.org/x", "https://example.org.evil/x",
        "http://lan:8080/x", "http://lan/x", "https://huggingface.co/x", "http://huggingface.co/x",
        "https://evil@civitai.com/x", "https://civitai.com@evil/x",
    )}  # fmt: skip
    assert list(asked.values()) == ["a", "a", None, None, "b", None, "c", None, "d", None]


def test_the_settings_go_before_the_environment() -> None:
    assert Tokens.of({"huggingface.co": "a"}, {"HF_TOKEN": "b"}).token_for("https://huggingface.co") == "a"


def test_the_advice_names_the_host_and_its_variable() -> None:
    assert '"civitai.com" = "…"' in advice("https://civitai.com/x") and "CIVITAI_TOKEN" in advice("https://civitai.com")
    assert "environment" not in advice("https://example.org")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@a.org/x", "https://a.org/x"),
        ("https://a.org/x?token=1&v=2", "https://a.org/x?v=2"),
        ("https://a.org/x?X-Amz-Signature=1&Api_Key=2#top", "https://a.org/x"),
        ("https://a.org/x?type=Model&format=SafeTensor", "https://a.org/x?type=Model&format=SafeTensor"),
    ],
)
def test_an_address_is_written_down_without_its_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown
