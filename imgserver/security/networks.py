"""Addresses and lists of networks. An IPv4 address in IPv6 clothes (::ffff:192.0.2.1) is the IPv4 address."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

# What a site is commonly given: one client may walk about in it.
CLIENT_PREFIX = {4: 32, 6: 64}
# What the log may keep of an address.
LOGGED_PREFIX = {4: 24, 6: 48}


class NetworkSet:
    """Networks by their length: a look-up is one step per length that occurs, however long the list is."""

    def __init__(self, networks: Iterable[IPNetwork]) -> None:
        self._found: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            self._found.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)

    def __bool__(self) -> bool:
        return bool(self._found)

    def __contains__(self, address: IPAddress) -> bool:
        number, version = int(address), address.version
        return any(version == kind and number >> shift in heads for (kind, shift), heads in self._found.items())


def parse_address(text: str) -> IPAddress | None:
    """None for what is no address. A zone (fe80::1%eth0) says nothing to others."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def parse_network(text: str) -> IPNetwork:
    """Of `10.0.0.0/8`, or of one address. Raises ValueError, also where bits of the host are set."""
    network = ip_network(text)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return IPv4Network((mapped, network.prefixlen - 96)) if mapped and network.prefixlen >= 96 else network


def client_network(address: IPAddress) -> str:
    """Who counts as one client: an IPv4 address, or an IPv6 /64."""
    return _cut(address, CLIENT_PREFIX)


def logged_network(text: str | None) -> str:
    """An address as it may stand in the audit: /24 of IPv4, /48 of IPv6; "unknown" for anything else."""
    address = parse_address(text) if text else None
    return _cut(address, LOGGED_PREFIX) if address else "unknown"


def _cut(address: IPAddress, prefixes: dict[int, int]) -> str:
    network = ip_network((address, prefixes[address.version]), strict=False)
    return str(network if network.prefixlen < network.max_prefixlen else network.network_address)
