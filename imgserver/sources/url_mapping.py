"""Sites: which address a path means, and which addresses a redirect may lead to.

A *named* site stands in front of one base address: `shop/mugs/red.jpg` is `mugs/red.jpg` below it. The *remote* site
takes whole addresses that are on its list, or that a signed URL has vouched for.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, NoReturn, Protocol
from urllib.parse import quote

from annotated_types import Ge, Gt, Le

from imgserver.errors import BadSourcePath, NotFound, SourceDenied
from imgserver.observability.audit import Audit, asked
from imgserver.security.allow_list import AllowList, read
from imgserver.security.remote_url import PORTS, REMOTE, Address, parse
from imgserver.security.ssrf import Networks

MIB = 1 << 20
# An address is vouched for by the request that then fetches it; so many may stand between the two.
VOUCHED = 16_384
DENIED = {
    "not_listed": "the server of this original is not on the list of those allowed",
    "port": "a signature opens the ports 80 and 443 alone; addresses with other ones have to be on the list",
}

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x20-\x7e]+")
# What the exchange itself depends on.
_OURS = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "if-match", "if-modified-since"}
    | {"if-none-match", "if-range", "if-unmodified-since", "range", "te", "trailer", "transfer-encoding", "upgrade"}
)


@dataclass(frozen=True, slots=True)
class HttpSourceSettings:
    """An HTTP source. With `base` it is a named one; without, it takes whole addresses that are `allowed`.

    `allowed`: entries such as `https://cdn.example.com/pictures/` or `https://*.example.com`; of a named source, where
    its redirects may lead beside its base. `networks`: CIDRs that may be dialled though they are not public. `headers`:
    secret lines such as `Authorization: Bearer ...`, sent below the base only. One answer may take `total_seconds`, all
    attempts and redirects together; `connect_seconds` is for a place among `connections`, the name, the connection and
    TLS.
    """

    base: str = ""
    allowed: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    headers: tuple[str, ...] = field(default=(), repr=False)
    connect_seconds: Annotated[float, Gt(0), Le(60)] = 2
    idle_seconds: Annotated[float, Gt(0), Le(60)] = 5
    total_seconds: Annotated[float, Gt(0), Le(600)] = 8
    max_bytes: Annotated[int, Ge(1024), Le(1024 * MIB)] = 64 * MIB
    redirects: Annotated[int, Ge(0), Le(10)] = 3
    attempts: Annotated[int, Ge(1), Le(5)] = 3
    connections: Annotated[int, Ge(1), Le(1000)] = 32

    def __post_init__(self) -> None:
        """Raises ValueError: an address, entry, CIDR or header line that is none, or headers without a base."""
        AllowList(self.allowed)
        Networks(self.networks)
        fields_of(self.headers)
        if self.base:
            read_base(self.base)
        elif self.headers:
            raise ValueError("headers belong to a source with a base; to whom else might they be sent?")


class UrlMapping(Protocol):
    """Knows addresses, not connections."""

    def address(self, path: str) -> Address:
        """Raises SourceDenied for what is not served, NotFound for what is no address."""
        ...

    def may_lead(self, start: Address, target: Address, /) -> bool:
        """Whether a redirect that began at `start` may go to `target`."""
        ...

    def fields(self, address: Address, /) -> Mapping[str, str]:
        """Header fields for this address, and for no other."""
        ...


class BaseUrlMapping:
    """Everything below `base`, which the owner has chosen; redirects may lead to `allowed` as well."""

    def __init__(self, settings: HttpSourceSettings) -> None:
        self._base = read_base(settings.base)
        self._below = read(str(self._base))
        self._allowed = AllowList(settings.allowed)
        self._fields = fields_of(settings.headers)

    def address(self, path: str) -> Address:
        try:
            # Every character of a file's name stands for itself: `?`, `#`, `%` and `;` too.
            return parse(str(replace(self._base, path=self._base.path + quote(path))))
        except (BadSourcePath, UnicodeEncodeError) as error:
            raise NotFound() from error

    def may_lead(self, _: Address, target: Address, /) -> bool:
        return self._below.permits(target) or self._allowed.permits(target)

    def fields(self, address: Address, /) -> Mapping[str, str]:
        return self._fields if self._below.permits(address) else {}


class RemoteUrlMapping:
    """Addresses on the list, and others only after a signed URL has vouched for them."""

    def __init__(self, settings: HttpSourceSettings, *, audit: Audit) -> None:
        self._allowed = AllowList(settings.allowed)
        self._audit = audit
        self._vouched: OrderedDict[str, None] = OrderedDict()

    def admit(self, path: str, *, signed: bool) -> None:
        """Called with every request, before the cache is asked: a picture that a signed URL has put there must not be
        answered to an unsigned one. Raises SourceDenied, NotFound."""
        address = self._parsed(path)
        if self._allowed.permits(address):
            return
        if not signed or address.port not in PORTS.values():
            self._deny(address, "not_listed" if not signed else "port")
        self._vouched[path] = None
        self._vouched.move_to_end(path)
        if len(self._vouched) > VOUCHED:
            self._vouched.popitem(last=False)

    def address(self, path: str) -> Address:
        address = self._parsed(path)
        if path not in self._vouched and not self._allowed.permits(address):
            self._deny(address, "not_listed")
        return address

    def may_lead(self, start: Address, target: Address, /) -> bool:
        """To the list; a signature covers one address, and what the same server, or itself by https, makes of it."""
        if self._allowed.permits(target):
            return True
        return not self._allowed.permits(start) and target.origin in (start.origin, ("https", start.host, 443))

    def fields(self, _: Address, /) -> Mapping[str, str]:
        return {}

    def _parsed(self, path: str) -> Address:
        try:
            return parse(path)
        except BadSourcePath as error:
            raise NotFound() from error

    def _deny(self, address: Address, reason: Literal["not_listed", "port"]) -> NoReturn:
        self._audit("source_denied", reason=reason, source=REMOTE, host=address.host, **asked())
        raise SourceDenied(DENIED[reason])


def read_base(text: str) -> Address:
    """Ends in a slash. Raises ValueError."""
    if "*" in text:
        raise ValueError(f'"{text}" is not allowed; one address without a *')
    return read(text).address


def fields_of(lines: tuple[str, ...]) -> dict[str, str]:
    """`Name: value` lines as fields. Raises ValueError, which repeats nothing: any part may be the secret."""
    fields = {}
    for number, line in enumerate(lines, 1):
        name, _, value = (part.strip() for part in line.partition(":"))
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value) or name.lower() in _OURS:
            raise ValueError(f'headers: line {number} is not allowed; a field of your own: "Authorization: Bearer ..."')
        fields[name] = value
    return fields
