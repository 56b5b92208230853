"""Addresses of every kind that is not public are blocked in every embedding; public addresses are not."""

import random
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.security.ssrf import KINDS, SsrfFilter, embedded_addresses

PUBLIC = SsrfFilter()
SIX_TO_FOUR = ip_network("2002::/16")

# The first, the last and a middle address of every network that must not be connected to.
REFUSED_4 = {
    "unspecified": ["0.0.0.0/8"],
    "loopback": ["127.0.0.0/8"],
    "private": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
    "link_local": ["169.254.0.0/16", "169.254.169.254/32"],
    "carrier_nat": ["100.64.0.0/10", "100.100.100.200/32"],
    "benchmarking": ["198.18.0.0/15"],
    "documentation": ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"],
    "multicast": ["224.0.0.0/4"],
    "cloud": ["168.63.129.16/32"],
    "reserved": ["192.0.0.0/24", "192.0.0.192/32", "192.88.99.0/24", "240.0.0.0/4", "255.255.255.255/32"],
}
REFUSED_6 = {
    "unspecified": ["::/128"],
    "loopback": ["::1/128"],
    "link_local": ["fe80::/10"],
    "site_local": ["fec0::/10"],
    "unique_local": ["fc00::/7", "fd00:ec2::254/128"],
    "multicast": ["ff00::/8"],
    "benchmarking": ["2001:2::/48"],
    "documentation": ["2001:db8::/32", "3fff::/20"],
    "reserved": ["2001:10::/28", "2001:20::/28", "100::/64", "5f00::/16", "4000::/3", "200::/7", "64:ff9b:2::/48"],
}
PUBLIC_4 = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "172.15.255.255"]
PUBLIC_4 += ["172.32.0.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"]
PUBLIC_6 = ["2606:4700:4700::1111", "2a00:1450:4001:81b::200e", "2001:4860:4860::8888", "3ffe:ffff::1"]


def v6(prefix: bytes, inner: bytes, suffix: bytes = b"") -> str:
    return str(IPv6Address((prefix + inner + suffix).ljust(16, b"\0")))


def flipped(inner: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in inner)


# Every way to embed an IPv4 address, with a public outer address where the form leaves a choice.
WRAPPINGS: dict[str, Callable[[bytes], str]] = {
    "plain": lambda inner: str(IPv4Address(inner)),
    "mapped": lambda inner: v6(bytes(10) + b"\xff\xff", inner),
    "compatible": lambda inner: v6(bytes(12), inner),
    "siit": lambda inner: v6(bytes(8) + b"\xff\xff\0\0", inner),
    "nat64": lambda inner: v6(bytes.fromhex("0064ff9b") + bytes(8), inner),
    "nat64 local": lambda inner: v6(bytes.fromhex("0064ff9b0001") + bytes(6), inner),
    "nat64 local, short": lambda inner: v6(bytes.fromhex("0064ff9b0001"), inner[:2] + b"\0" + inner[2:]),
    "6to4": lambda inner: v6(b"\x20\x02", inner, b"\0\1" + bytes(7) + b"\1"),
    "teredo server": lambda inner: v6(bytes.fromhex("20010000"), inner, b"\0\0\0\0" + flipped(b"\x08\x08\x08\x08")),
    "teredo client": lambda inner: v6(bytes.fromhex("20010000"), b"\x08\x08\x08\x08", b"\0\0\0\0" + flipped(inner)),
    "isatap": lambda inner: v6(bytes.fromhex("260647000000000000005efe"), inner),
    "isatap, universal": lambda inner: v6(bytes.fromhex("260647000000000002005efe"), inner),
    "isatap in 6to4": lambda inner: v6(bytes.fromhex("200208080808") + b"\0\0" + bytes.fromhex("00005efe"), inner),
}
# Forms that no public server uses. They are blocked even around a public address.
NEVER_PUBLIC = {"compatible", "siit", "nat64 local", "nat64 local, short", "teredo server", "teredo client"}


def samples(cidr: str) -> list[str]:
    network = ip_network(cidr)
    chosen = random.Random(cidr).randrange(network.num_addresses)
    return sorted({str(network[0]), str(network[chosen]), str(network[-1])})


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("kind", REFUSED_4)
def test_a_blocked_ipv4_address_is_blocked_in_every_embedding(kind: str, wrapping: str) -> None:
    for address in (one for cidr in REFUSED_4[kind] for one in samples(cidr)):
        wrapped = WRAPPINGS[wrapping](IPv4Address(address).packed)
        # `::` and `::1`, the compatible forms of 0.0.0.0 and 0.0.0.1, are special addresses.
        assert PUBLIC.blocked_reason(wrapped) in ({kind} if wrapped != "::1" else {"loopback"}), wrapped


@pytest.mark.parametrize("kind", REFUSED_6)
def test_blocked_ipv6_addresses_are_blocked(kind: str) -> None:
    for address in (one for cidr in REFUSED_6[kind] for one in samples(cidr)):
        assert PUBLIC.blocked_reason(address) == kind, address


@pytest.mark.parametrize("address", PUBLIC_4 + PUBLIC_6)
def test_public_addresses_are_allowed(address: str) -> None:
    assert PUBLIC.blocked_reason(address) is None


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("address", PUBLIC_4)
def test_an_embedded_public_address_is_allowed_where_public_servers_use_the_embedding(
    address: str, wrapping: str
) -> None:
    refusal = PUBLIC.blocked_reason(WRAPPINGS[wrapping](IPv4Address(address).packed))

    assert refusal == ("reserved" if wrapping in NEVER_PUBLIC else None)


def test_every_kind_is_tested() -> None:
    assert {*REFUSED_4, *REFUSED_6} == KINDS


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_an_address_that_python_knows_as_not_global_is_blocked(address: IPv4Address | IPv6Address) -> None:
    if PUBLIC.blocked_reason(str(address)) is None:
        for part in embedded_addresses(address):
            assert not (part.is_multicast or part.is_loopback or part.is_link_local or part.is_unspecified)
            # Python 3.13 calls the prefix itself private; the embedded address was checked.
            assert part in SIX_TO_FOUR or (part.is_global and not part.is_private)


@given(st.ip_addresses(v=4), st.sampled_from(sorted(WRAPPINGS)))
def test_an_embedding_never_allows_a_blocked_address(inner: IPv4Address, wrapping: str) -> None:
    if PUBLIC.blocked_reason(str(inner)):
        assert PUBLIC.blocked_reason(WRAPPINGS[wrapping](inner.packed)), wrapping


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0177.0.0.1", "::1%", "fe80::1%eth0", "::1%1", "[::1]"])
def test_a_malformed_address_is_blocked(text: str) -> None:
    assert PUBLIC.blocked_reason(text)


def test_an_exception_allows_only_its_network() -> None:
    networks = SsrfFilter(["127.0.0.0/8", "fd00::/8"])

    assert networks.blocked_reason("127.0.0.1") is None
    assert networks.blocked_reason("fd12::1") is None
    assert networks.blocked_reason("10.0.0.1") == "private"
    assert networks.blocked_reason("::1") == "loopback"
    assert networks.blocked_reason("fc00::1") == "unique_local"


def test_an_exception_also_allows_the_ipv4_mapped_form() -> None:
    assert SsrfFilter(["127.0.0.0/8"]).blocked_reason("::ffff:127.0.0.1") is None


def test_an_exception_does_not_allow_an_embedded_address() -> None:
    isatap = v6(bytes.fromhex("fd0000000000000000005efe"), b"\x7f\0\0\1")
    nat64 = WRAPPINGS["nat64 local"](b"\x7f\0\0\1")

    assert SsrfFilter(["fd00::/8"]).blocked_reason(isatap) == "loopback"
    assert SsrfFilter(["fd00::/8", "127.0.0.0/8"]).blocked_reason(isatap) is None
    assert SsrfFilter(["64:ff9b:1::/48"]).blocked_reason(nat64) == "loopback"
    assert SsrfFilter(["64:ff9b:1::/48"]).blocked_reason(WRAPPINGS["nat64 local"](b"\x08\x08\x08\x08")) is None
    assert SsrfFilter(["::1/128"]).blocked_reason("::1") is None


@pytest.mark.parametrize("cidr", ["", "localhost", "10.0.0.1/8", "10.0.0.0/33", "*"])
def test_a_malformed_exception_fails_at_start(cidr: str) -> None:
    with pytest.raises(ValueError):
        SsrfFilter([cidr])


def test_embedded_addresses_come_before_the_outer_one() -> None:
    assert embedded_addresses(ip_address("2002:a00:1::1")) == (ip_address("10.0.0.1"), ip_address("2002:a00:1::1"))
