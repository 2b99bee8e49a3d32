"""Addresses: which machines may be asked. A request is dropped by anybody who can write into autoimport/.

Called with the address that a connection really has, after names were resolved and before anything is sent, so that a
name that resolves to something else the second time gains nothing.
"""

from __future__ import annotations

import ipaddress

from invokeai_daemon.errors import InstallError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Where clouds keep credentials of the machine: never asked, whatever the settings allow.
_METADATA = {
    ipaddress.ip_address(text) for text in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16")
}
#: IPv6 addresses that stand for an IPv4 address in their last four bytes.
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


def refusal(text: str, allow_private: bool) -> str:
    """Why an IP address may not be asked, as a sentence; empty when it may."""
    address = _plain(ipaddress.ip_address(text.partition("%")[0]))
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return f"{text} is an address that is never asked for models."
    # Reserved are also the IPv6 addresses that once stood for IPv4 ones, as ::127.0.0.1; Python calls them global.
    is_public = address.is_global and not address.is_reserved and not getattr(address, "is_site_local", False)
    if is_public or allow_private:
        return ""
    return f"{text} is an address of this machine or its network. If that is meant, set [install] allow_private = true."


def check_peer(host: str, text: str, allow_private: bool) -> None:
    """Raises InstallError when the address that a host has may not be asked."""
    why = refusal(text, allow_private)
    if why:
        raise InstallError(why if host == text else f"{host}: {why}")


def _plain(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 address stands for, or itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour or address
    if address.teredo:
        return address.teredo[1]
    if any(address in network for network in _TRANSLATED):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
