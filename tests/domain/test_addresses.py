"""Where outbound calls may lead to: the ranges, one by one, and every spelling of one inside another."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.domain.addresses import refused_address


def is_allowed(address: str, *, private: bool = False, link_local: bool = False) -> bool:
    return refused_address(address, private=private, link_local=link_local) is None


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_public_addresses_are_always_allowed(address: str) -> None:
    assert is_allowed(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
        "::1", "fc00::1", "fd12:3456::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
    ],
)  # fmt: skip
def test_private_addresses_need_the_entry_s_word(address: str) -> None:
    assert not is_allowed(address, link_local=True)
    assert is_allowed(address, private=True)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
     "fd00:ec2::254", "100.100.100.200"],
)  # fmt: skip
def test_the_link_needs_a_word_of_its_own(address: str) -> None:
    assert not is_allowed(address, private=True)
    assert is_allowed(address, link_local=True)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 - nothing binds here
        "0.1.2.3", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.0.0.1",
        "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
        "::", "ff02::1", "fec0::1", "2001:db8::1", "100::1", "::7f00:1", "::ffff:0:7f00:1", "64:ff9b:1::7f00:1",
        "2002:7f00:1::", "2002:808:808::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "4000::1", "::ffff:0.0.0.0",
        "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "", "1.2.3.4 ", "[::1]",
    ],
)  # fmt: skip
def test_the_rest_is_never_allowed(address: str) -> None:
    assert not is_allowed(address, private=True, link_local=True)


@given(st.integers(0, 2**32 - 1))
def test_an_address_inside_another_is_judged_as_itself(number: int) -> None:
    plain = IPv4Address(number)
    for private in (False, True):
        wanted = is_allowed(str(plain), private=private)
        assert is_allowed(str(IPv6Address((0xFFFF << 32) | number)), private=private) is wanted
        assert is_allowed(str(IPv6Address((0x64FF9B << 96) | number)), private=private) is wanted
    if is_allowed(str(plain)):
        assert plain.is_global
        assert not plain.is_multicast


@given(st.integers(0, 2**128 - 1))
def test_other_ranges_of_ipv6_are_closed(number: int) -> None:
    address = IPv6Address(number)
    if is_allowed(str(address)):
        assert number >> 125 == 1 or number >> 32 in (0xFFFF, 0x64FF9B << 64)
