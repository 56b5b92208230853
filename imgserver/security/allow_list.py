"""The allow-list of remote URLs: `https://cdn.example.com/pictures/`, `https://*.example.com`.

An entry is parsed, never compared as text. It gives the scheme, the host (or, after `*.`, any host below it), the port
(the scheme's default without one), and the beginning of the path up to a slash.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from imgserver.errors import BadSourcePath
from imgserver.security.remote_url import RemoteUrl, parse

_SUBDOMAINS = "://*."
_USER = re.compile("//.*@")


@dataclass(frozen=True, slots=True)
class AllowListEntry:
    """`subdomains`: it permits the hosts below its host, and not the host itself."""

    address: RemoteUrl
    subdomains: bool = False

    def permits(self, address: RemoteUrl) -> bool:
        return (
            (address.scheme, address.port) == (self.address.scheme, self.address.port)
            and self._is_host(address.host)
            and address.path.startswith(self.address.path)
        )

    def _is_host(self, host: str) -> bool:
        return host.endswith("." + self.address.host) if self.subdomains else host == self.address.host


class AllowList:
    """An empty list permits nothing."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        """Raises ValueError for a malformed entry."""
        self._entries = tuple(parse_entry(entry) for entry in entries)

    def permits(self, address: RemoteUrl) -> bool:
        return any(entry.permits(address) for entry in self._entries)


def parse_entry(text: str) -> AllowListEntry:
    """Parses an entry. Raises ValueError, whose text shows neither a password nor a query."""
    subdomains = _SUBDOMAINS in text
    try:
        address = parse(text.replace(_SUBDOMAINS, "://", 1) if subdomains else text)
    except BadSourcePath as fault:
        raise ValueError(f'"{_USER.sub("//...@", text.partition("?")[0])}" is not allowed; {fault.detail}') from None
    if address.query:
        raise ValueError(f'"{text.partition("?")[0]}?..." is not allowed; an entry ends with its path')
    if subdomains and (":" in address.host or address.host[-1].isdigit()):
        raise ValueError(f'"{text}" is not allowed; *. is followed by a host name')
    path = address.path
    return AllowListEntry(replace(address, path=path if path.endswith("/") else path + "/"), subdomains)
