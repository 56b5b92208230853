"""The SSRF filter: which IP addresses may be connected to. These are globally routable unicast addresses, and those
that the settings allow.

An IPv6 address may embed an IPv4 address, which a translator on the way or the kernel of this machine extracts again.
So every embedded address is checked as well as the outer one. The tables are our own: `ipaddress` calls loopback inside
NAT64, 6to4 or the IPv4-compatible form global, and multicast too, and its answers change with Python's version.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from imgserver.security.networks import IPAddress, IPNetwork

# By the registries of special-purpose addresses (RFC 6890 and its successors). The names are the reasons of the audit
# event `address_blocked`.
_REFUSED_4: dict[str, tuple[str, ...]] = {
    "unspecified": ("0.0.0.0/8",),
    "loopback": ("127.0.0.0/8",),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    "link_local": ("169.254.0.0/16",),
    "carrier_nat": ("100.64.0.0/10",),
    "benchmarking": ("198.18.0.0/15",),
    "documentation": ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),
    "multicast": ("224.0.0.0/4",),
    # Services of a cloud platform at an address that looks public: https://learn.microsoft.com/azure/virtual-network
    "cloud": ("168.63.129.16/32",),
    "reserved": ("192.0.0.0/24", "192.88.99.0/24", "240.0.0.0/4"),
}
_REFUSED_6: dict[str, tuple[str, ...]] = {
    "unspecified": ("::/128",),
    "loopback": ("::1/128",),
    "link_local": ("fe80::/10",),
    "site_local": ("fec0::/10",),
    "unique_local": ("fc00::/7",),
    "multicast": ("ff00::/8",),
    "benchmarking": ("2001:2::/48",),
    "documentation": ("2001:db8::/32", "3fff::/20"),
    # This range includes Teredo.
    "reserved": ("2001::/23",),
}
# All other IPv6 addresses are reserved, whatever may be assigned there one day.
_UNICAST_6 = (IPv6Network("2000::/3"), IPv6Network("64:ff9b::/96"))

_COMPATIBLE = IPv6Network("::/96")  # RFC 4291, 2.5.5.1
_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291, 2.5.5.2
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")  # SIIT, RFC 2765
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")  # RFC 8215
_SIX_TO_FOUR = IPv6Network("2002::/16")  # RFC 3056
_TEREDO = IPv6Network("2001::/32")  # RFC 4380
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")  # RFC 5214


def _tables(*tables: dict[str, tuple[str, ...]]) -> tuple[tuple[str, IPNetwork], ...]:
    return tuple((kind, ip_network(cidr)) for table in tables for kind, cidrs in table.items() for cidr in cidrs)


_REFUSED = _tables(_REFUSED_4, _REFUSED_6)
KINDS = frozenset(kind for kind, _ in _REFUSED)


class SsrfFilter:
    """The filter of one source. `exceptions` are CIDRs. Each allows its addresses, but no address embedded in them."""

    def __init__(self, exceptions: Iterable[str] = ()) -> None:
        """Raises ValueError for a malformed network."""
        self._exceptions = tuple(map(_read, exceptions))

    def blocked_reason(self, text: str) -> str | None:
        """Why this IP address must not be connected to, as one of KINDS; None: it may. A scope (`%eth0`) is ignored."""
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            return "reserved"
        for part in embedded_addresses(address):
            if not any(part in network for network in self._exceptions) and (kind := _kind(part)):
                return kind
        return None


def _read(cidr: str) -> IPNetwork:
    try:
        return ip_network(cidr)
    except ValueError as fault:
        expected = "a network such as 10.1.0.0/16, or one address"
        raise ValueError(f'allowed_networks: "{cidr}" is not allowed; {expected}') from fault


def embedded_addresses(address: IPAddress) -> tuple[IPAddress, ...]:
    """The addresses to check: the embedded IPv4 addresses, then the address itself.

    For an IPv4-mapped address, only the embedded one: the kernel connects to that.
    """
    if isinstance(address, IPv4Address):
        return (address,)
    inner = tuple(_inside(address))
    return inner if address in _MAPPED else (*inner, address)


def _inside(address: IPv6Address) -> Iterator[IPv4Address]:
    data = address.packed
    is_compatible = address in _COMPATIBLE and int(address) > 1  # `::` and `::1` are themselves
    if is_compatible or any(address in network for network in (_MAPPED, _TRANSLATED, _NAT64)):
        yield IPv4Address(data[12:])
    if address in _NAT64_LOCAL:
        # With the full prefix of 48 bits, the IPv4 address is split by one byte and followed by zeros (RFC 6052, 2.2).
        yield IPv4Address(data[12:] if any(data[11:]) else data[6:8] + data[9:11])
    if address in _SIX_TO_FOUR:
        yield IPv4Address(data[2:6])
    if address in _TEREDO:
        yield IPv4Address(data[4:8])
        yield IPv4Address(bytes(byte ^ 0xFF for byte in data[12:]))
    if data[8:12] in _ISATAP:
        yield IPv4Address(data[12:])


def _kind(address: IPAddress) -> str | None:
    for kind, network in _REFUSED:
        if address in network:
            return kind
    if isinstance(address, IPv6Address) and not any(address in network for network in _UNICAST_6):
        return "reserved"
    return None
