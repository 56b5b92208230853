"""The IP address of the client behind proxies.

Each proxy appends the address of its own peer to a header field, so the entries at the left may be forged. The list is
read from the right, starting with the peer of the connection, as long as the writer of an entry is a trusted proxy. The
first address that is not a trusted proxy is the client.
"""

import re
from collections.abc import Sequence

from imgserver.security.networks import IPAddress, NetworkSet, parse_address
from imgserver.security.policy import Proxies

# A field can hold 8 kB of commas. No real client is behind so many proxies.
HOPS_LIMIT = 32

_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*(?:"([^"]*)"|([^;,\s"]*))', re.IGNORECASE)
_PORT = re.compile(r"(\[[^\]]*\]|[0-9.]+)(?::\d{1,5})?")


class ClientAddressResolver:
    """Resolves clients by one proxy configuration. `field` is the header field whose lines `resolve` needs; "" when no
    field is trusted."""

    def __init__(self, proxies: Proxies) -> None:
        self.field = proxies.field if proxies else ""
        self._networks = NetworkSet(proxies.networks)
        self._hops = proxies.hops
        self._parse = _forwarded if proxies.field == "Forwarded" else _entry

    def resolve(self, peer: str, lines: Sequence[str]) -> str:
        """The client's address. `lines` are the values of the field in their order. From a peer that is not trusted
        they change nothing. An entry that is not an address ends the walk at the proxy that wrote it."""
        client = peer
        entries = reversed([entry for line in lines for entry in _members(line)][-HOPS_LIMIT:])
        for hop, entry in enumerate(entries):
            if hop >= self._hops and not self._is_trusted(client):
                break
            address = self._parse(entry)
            if address is None:
                break
            client = str(address)
        return client

    def _is_trusted(self, text: str) -> bool:
        address = parse_address(text)
        return address is not None and address in self._networks


def _members(line: str) -> list[str]:
    return [member for member in (part.strip() for part in line.split(",")) if member]


def _entry(text: str) -> IPAddress | None:
    """`192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`."""
    found = _PORT.fullmatch(text)
    return parse_address(found[1].strip("[]") if found else text)


def _forwarded(text: str) -> IPAddress | None:
    """The `for` parameter of one element (RFC 7239). None for `unknown` and for obfuscated names."""
    found = _FOR.search(text)
    return _entry(found[1] if found[1] is not None else found[2]) if found else None
