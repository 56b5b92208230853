"""The list of addresses that may be asked for: `https://cdn.example.com/pictures/`, `https://*.example.com`.

An entry is parsed, never compared as text: scheme, host (or any host below it, behind `*.`), port (the scheme's own if
none is written), and the beginning of the path up to a slash.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from imgserver.errors import BadSourcePath
from imgserver.security.remote_url import RemoteUrl, parse

_ANY_BELOW = "://*."
_USER = re.compile("//.*@")


@dataclass(frozen=True, slots=True)
class Entry:
    """`below`: hosts that end in a dot and the entry's host, instead of the host itself."""

    address: RemoteUrl
    below: bool = False

    def permits(self, address: RemoteUrl) -> bool:
        return (
            (address.scheme, address.port) == (self.address.scheme, self.address.port)
            and self._is_host(address.host)
            and address.path.startswith(self.address.path)
        )

    def _is_host(self, host: str) -> bool:
        return host.endswith("." + self.address.host) if self.below else host == self.address.host


class AllowList:
    """Empty, it permits nothing."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        """Raises ValueError for an entry that is none."""
        self._entries = tuple(read(entry) for entry in entries)

    def permits(self, address: RemoteUrl) -> bool:
        return any(entry.permits(address) for entry in self._entries)


def read(text: str) -> Entry:
    """Raises ValueError, which repeats neither password nor query."""
    below = _ANY_BELOW in text
    try:
        address = parse(text.replace(_ANY_BELOW, "://", 1) if below else text)
    except BadSourcePath as fault:
        raise ValueError(f'"{_USER.sub("//...@", text.partition("?")[0])}" is not allowed; {fault.detail}') from None
    if address.query:
        raise ValueError(f'"{text.partition("?")[0]}?..." is not allowed; an entry ends with its path')
    if below and (":" in address.host or address.host[-1].isdigit()):
        raise ValueError(f'"{text}" is not allowed; below *. stands a name')
    path = address.path
    return Entry(replace(address, path=path if path.endswith("/") else path + "/"), below)
