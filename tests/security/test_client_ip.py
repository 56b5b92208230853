"""The client behind proxies: the rightmost address that is not a trusted proxy."""

from ipaddress import ip_network

import pytest

from imgserver.security.client_ip import HOPS_LIMIT, ClientAddressResolver
from imgserver.security.policy import Proxies

STRANGER, PROXY, OUTER = "198.51.100.7", "10.0.0.1", "10.0.0.2"
NETWORKS = (ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"))


def client(peer: str, *lines: str, **proxies) -> str:
    return ClientAddressResolver(Proxies(**proxies)).resolve(peer, lines)


def test_without_proxies_the_peer_is_the_client() -> None:
    assert client(PROXY, STRANGER) == PROXY
    assert ClientAddressResolver(Proxies()).field == ""


def test_the_field_of_an_untrusted_peer_is_ignored() -> None:
    assert client(STRANGER, "192.0.2.1", networks=NETWORKS) == STRANGER
    assert client(STRANGER, f"192.0.2.1, {PROXY}", networks=NETWORKS) == STRANGER


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), PROXY),
        (("",), PROXY),
        ((STRANGER,), STRANGER),
        ((f"192.0.2.1, {STRANGER}",), STRANGER),
        ((f"192.0.2.1,{STRANGER} , {OUTER}",), STRANGER),
        (("192.0.2.1", STRANGER), STRANGER),
        (("192.0.2.1", f"{STRANGER}, {OUTER}"), STRANGER),
        ((f"{OUTER}, 10.9.9.9",), OUTER),
        (("192.0.2.1, nonsense",), PROXY),
        ((f"192.0.2.1, nonsense, {OUTER}",), OUTER),
        ((f"{STRANGER}:8080",), STRANGER),
        (("[2001:db8:2::1]:443",), "2001:db8:2::1"),
        (("2001:db8:2::1",), "2001:db8:2::1"),
        ((f"{STRANGER}, 2001:db8:1::5",), STRANGER),
        ((f"::ffff:{STRANGER}",), STRANGER),
        (("192.0.2.1" + "," * 4000,), "192.0.2.1"),
        (("999.1.1.1",), PROXY),
        (("010.0.0.1",), PROXY),
    ],
)
def test_the_rightmost_address_that_is_not_trusted_is_the_client(lines, expected) -> None:
    assert client(PROXY, *lines, networks=NETWORKS) == expected


def test_a_proxy_is_trusted_in_its_ipv4_mapped_form() -> None:
    assert client(f"::ffff:{PROXY}", STRANGER, networks=NETWORKS) == STRANGER


def test_hops_trust_the_nearest_proxies_at_any_address() -> None:
    chain = f"192.0.2.1, {STRANGER}, 203.0.113.9"

    assert client("203.0.113.1", chain, hops=1) == "203.0.113.9"
    assert client("203.0.113.1", chain, hops=2) == STRANGER
    assert client("203.0.113.1", STRANGER, hops=2) == STRANGER
    assert client("203.0.113.1", f"{STRANGER}, {PROXY}", hops=1, networks=NETWORKS) == STRANGER


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"for={STRANGER}", STRANGER),
        (f'For="{STRANGER}:4711";proto=https;by=10.0.0.9', STRANGER),
        ('proto=https; for="[2001:db8:2::1]:4711"', "2001:db8:2::1"),
        (f"for=192.0.2.1, for={STRANGER}, for={OUTER}", STRANGER),
        ("for=unknown", PROXY),
        ("for=_hidden", PROXY),
        ("by=192.0.2.1", PROXY),
        (STRANGER, PROXY),
    ],
)
def test_forwarded_is_parsed_by_rfc_7239(line, expected) -> None:
    assert client(PROXY, line, networks=NETWORKS, field="Forwarded") == expected


def test_the_number_of_entries_that_are_read_is_bounded() -> None:
    chain = ", ".join(["192.0.2.1"] + [PROXY] * 1000)

    assert client(PROXY, chain, networks=NETWORKS) == PROXY
    assert client(PROXY, ", ".join(["192.0.2.1"] + [PROXY] * (HOPS_LIMIT - 1)), networks=NETWORKS) == "192.0.2.1"
