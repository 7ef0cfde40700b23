"""Which network addresses a host entry may lead to.

Public unicast always; loopback and private networks where the entry says `private`; the link (among it the
metadata services of clouds) only where it says `link_local`; everything else never.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

_PRIVATE: Final = tuple(
    ip_network(each)
    for each in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7"
    )
)  # fmt: skip
_LINK: Final = tuple(ip_network(each) for each in ("169.254.0.0/16", "fe80::/10"))
# Metadata services that live outside the link's own range.
_METADATA: Final = frozenset(ip_address(each) for each in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200"))
_UNICAST6: Final = ip_network("2000::/3")
_NAT64: Final = ip_network("64:ff9b::/96")


@lru_cache(1024)
def refused_address(text: str, *, private: bool, link_local: bool) -> str | None:
    """Why this address may not be called, or None if it may."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return f"{text} is not an address"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address in _NAT64:  # the way to IPv4 from a network that has none
            address = IPv4Address(int(address) & 0xFFFFFFFF)
        elif address.sixtofour is not None:
            return f"{text} carries another address inside"
    if address in _METADATA or any(address in network for network in _LINK):
        return None if link_local else f"{text} is an address of the link"
    if any(address in network for network in _PRIVATE):
        return None if private else f"{text} is a private address"
    unicast = address.version == 4 or address in _UNICAST6
    if unicast and address.is_global and not (address.is_multicast or address.is_reserved):
        return None
    return f"{text} is not an address of a host"
