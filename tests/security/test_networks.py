from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.security.networks import NetworkSet, client_network, logged_network, parse_address, parse_network

addresses = st.ip_addresses()
networks = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), st.tuples(st.ip_addresses(v=6), st.integers(0, 128))
).map(lambda pair: ip_network(pair, strict=False))


@given(st.lists(networks, max_size=8), addresses)
def test_a_set_contains_the_addresses_of_its_networks(members, address) -> None:
    assert (address in NetworkSet(members)) == any(address in member for member in members)


@given(networks)
def test_a_set_contains_both_ends_of_a_network(network) -> None:
    assert network[0] in NetworkSet([network])
    assert network[-1] in NetworkSet([network])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("", None),
        ("192.0.2", None),
        ("0300.0.2.1", None),
        ("localhost", None),
    ],
)
def test_only_an_address_is_parsed_as_an_address(text, expected) -> None:
    assert parse_address(text) == (ip_address(expected) if expected else None)


def test_a_mapped_network_is_the_ipv4_network() -> None:
    assert parse_network("::ffff:192.0.2.0/120") == ip_network("192.0.2.0/24")
    assert parse_network("192.0.2.1") == ip_network("192.0.2.1/32")
    with pytest.raises(ValueError, match="host bits"):
        parse_network("192.0.2.1/24")


def test_a_client_is_an_ipv4_address_or_an_ipv6_64() -> None:
    assert client_network(ip_address("192.0.2.1")) == "192.0.2.1"
    assert client_network(ip_address("2001:db8:1:2:3::4")) == "2001:db8:1:2::/64"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("", "unknown"),
        (None, "unknown"),
        ("evil\n", "unknown"),
    ],
)
def test_the_log_holds_the_network_of_an_address(text, expected) -> None:
    assert logged_network(text) == expected
