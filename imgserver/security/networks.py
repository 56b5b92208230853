"""IP addresses and sets of networks. An IPv4-mapped IPv6 address (::ffff:192.0.2.1) counts as the IPv4 address."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

# What a site is commonly given: one client can use any address in it.
CLIENT_PREFIX = {4: 32, 6: 64}
# The part of an address that the log may hold.
LOGGED_PREFIX = {4: 24, 6: 48}


class NetworkSet:
    """A set of networks. A lookup takes one step per prefix length that occurs, however many networks there are."""

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
    """None for a text that is not an address. A zone (fe80::1%eth0), which means something to one host only, is
    ignored."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def parse_network(text: str) -> IPNetwork:
    """Parses `10.0.0.0/8` or one address. Raises ValueError, also when host bits are set."""
    network = ip_network(text)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return IPv4Network((mapped, network.prefixlen - 96)) if mapped and network.prefixlen >= 96 else network


def client_network(address: IPAddress) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 /64."""
    return _cut(address, CLIENT_PREFIX)


def client_of(text: str | None) -> str:
    """The same for the text of an address; "" for anything else."""
    address = parse_address(text) if text else None
    return client_network(address) if address else ""


def logged_network(text: str | None) -> str:
    """An address as the audit log may hold it: the IPv4 /24 or the IPv6 /48; "unknown" for anything else."""
    address = parse_address(text) if text else None
    return _cut(address, LOGGED_PREFIX) if address else "unknown"


def _cut(address: IPAddress, prefixes: dict[int, int]) -> str:
    network = ip_network((address, prefixes[address.version]), strict=False)
    return str(network if network.prefixlen < network.max_prefixlen else network.network_address)
