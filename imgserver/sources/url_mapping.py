"""Which URL a path of an HTTP source stands for, and to which URLs its redirects may lead.

A *base URL mapping* has one URL that all paths are below: `mugs/red.jpg` is
https://shop.example.com/media/mugs/red.jpg. The *remote URL mapping* takes whole URLs that are on its allow list, or
that a signed request has named.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, NoReturn, Protocol
from urllib.parse import quote

from annotated_types import Ge, Le

from imgserver.errors import BadSourcePath, NotFound, SourceDenied
from imgserver.observability.audit import Audit, request_context
from imgserver.runtime.resources import MIB
from imgserver.runtime.ttl_map import BoundedMap
from imgserver.security.allow_list import AllowList, parse_entry
from imgserver.security.remote_url import PORTS, REMOTE, RemoteUrl, parse
from imgserver.security.ssrf import SsrfFilter
from imgserver.sources.config import FetchSettings, RemoteSettings, SourceConfig
from imgserver.sources.origin_cache.settings import OriginCacheSettings

MAX_CONNECTIONS = 1000
# A signed request admits its URL and then fetches it. At most so many URLs are admitted in between.
MAX_ADMITTED = 16_384
DENIED = {
    "not_listed": "the server of this original is not on the list of those allowed",
    "port": "a signature opens the ports 80 and 443 alone; addresses with other ones have to be on the list",
}

# Fields that identify the client, not the original. They change when keys are rotated.
_CREDENTIAL = re.compile("auth|cookie|key|pass|secret|signature|token", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x20-\x7e]+")
# Header fields that the HTTP client itself depends on.
_RESERVED_FIELDS = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "if-match", "if-modified-since"}
    | {"if-none-match", "if-range", "if-unmodified-since", "range", "te", "trailer", "transfer-encoding", "upgrade"}
)


@dataclass(frozen=True, slots=True)
class HttpOriginSettings:
    """With `base`, all paths are below that URL; without, paths are whole URLs that are `allowed`.

    `allowed` has entries such as `https://cdn.example.com/pictures/` or `https://*.example.com`; with a base they are
    the URLs outside it to which redirects may lead. `networks` are CIDRs that may be connected to although they are
    not public. `headers` are secret lines such as `Authorization: Bearer ...`, sent with requests below the base only.
    `max_bytes` bounds the Content-Length of a response, `connections` the open connections.
    """

    base: str = ""
    allowed: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    headers: tuple[str, ...] = field(default=(), repr=False)
    fetch: FetchSettings = field(default_factory=FetchSettings)
    max_bytes: Annotated[int, Ge(1)] = 64 * MIB
    connections: Annotated[int, Ge(1), Le(MAX_CONNECTIONS)] = 32

    def __post_init__(self) -> None:
        """Raises ValueError for a malformed URL, entry, CIDR or header line, and for headers without a base."""
        AllowList(self.allowed)
        SsrfFilter(self.networks)
        fields_of(self.headers)
        if self.base:
            read_base(self.base)
        elif self.headers:
            raise ValueError("headers: only for a source with a base URL; they must not reach other servers")


class UrlMapping(Protocol):
    """Knows URLs, not connections."""

    def address(self, path: str) -> RemoteUrl:
        """The URL of a path. Raises SourceDenied for a URL that is not allowed, NotFound for a malformed one."""
        ...

    def allows_redirect(self, start: RemoteUrl, target: RemoteUrl, /) -> bool:
        """Whether a chain of redirects that began at `start` may lead to `target`."""
        ...

    def fields(self, address: RemoteUrl, /) -> Mapping[str, str]:
        """Secret header fields for this URL and no other."""
        ...


class BaseUrlMapping:
    """All URLs below `base`, which the owner has chosen. Redirects may also lead to `allowed`."""

    def __init__(self, settings: HttpOriginSettings) -> None:
        self._base = read_base(settings.base)
        self._below = parse_entry(str(self._base))
        self._allowed = AllowList(settings.allowed)
        self._fields = fields_of(settings.headers)

    def address(self, path: str) -> RemoteUrl:
        try:
            # The path is a file name: `?`, `#`, `%` and `;` in it have no special meaning.
            return parse(str(replace(self._base, path=self._base.path + quote(path))))
        except (BadSourcePath, UnicodeEncodeError) as error:
            raise NotFound() from error

    def allows_redirect(self, _: RemoteUrl, target: RemoteUrl, /) -> bool:
        return self._below.permits(target) or self._allowed.permits(target)

    def fields(self, address: RemoteUrl, /) -> Mapping[str, str]:
        return self._fields if self._below.permits(address) else {}


class RemoteUrlMapping:
    """URLs on the allow list, and others after a signed request has named them."""

    def __init__(self, settings: HttpOriginSettings, *, audit: Audit) -> None:
        self._allowed = AllowList(settings.allowed)
        self._audit = audit
        self._admitted = BoundedMap[str, bool](MAX_ADMITTED)

    def admit(self, path: str, *, signed: bool) -> None:
        """Called for every request before the cache lookup: a rendition that a signed request has put into the cache
        must not be served to an unsigned one. Raises SourceDenied and NotFound."""
        address = self._parsed(path)
        if self._allowed.permits(address):
            return
        if not signed or address.port not in PORTS.values():
            self._deny(address, "not_listed" if not signed else "port")
        self._admitted.put(path, True)

    def address(self, path: str) -> RemoteUrl:
        address = self._parsed(path)
        if not self._admitted.get(path) and not self._allowed.permits(address):
            self._deny(address, "not_listed")
        return address

    def allows_redirect(self, start: RemoteUrl, target: RemoteUrl, /) -> bool:
        """To the allow list. A signature covers one URL, so its redirects stay on the same server, or on the same host
        with https."""
        if self._allowed.permits(target):
            return True
        return not self._allowed.permits(start) and target.origin in (start.origin, ("https", start.host, 443))

    def fields(self, _: RemoteUrl, /) -> Mapping[str, str]:
        return {}

    def _parsed(self, path: str) -> RemoteUrl:
        try:
            return parse(path)
        except BadSourcePath as error:
            raise NotFound() from error

    def _deny(self, address: RemoteUrl, reason: Literal["not_listed", "port"]) -> NoReturn:
        self._audit("source_denied", reason=reason, source=REMOTE, host=address.host, **request_context())
        raise SourceDenied(DENIED[reason])


def check(config: SourceConfig) -> None:
    """The settings check of the schemes http and https. Raises ValueError."""
    settings_of(config)


def identity(config: SourceConfig) -> str:
    """The identity of the schemes http and https: the normalized URL, and the header lines that are not credentials,
    because a server may choose by `X-Tenant: shop` what it serves."""
    fields = fields_of(config.headers)
    chosen = sorted(f"{name.lower()}: {value}" for name, value in fields.items() if not _CREDENTIAL.search(name))
    return "\n".join([str(read_base(config.url)), *chosen])


def remote_settings(
    remote: RemoteSettings, fetch: FetchSettings, origin_cache: OriginCacheSettings
) -> HttpOriginSettings:
    """The settings of the origin of whole URLs."""
    return HttpOriginSettings(
        allowed=remote.allowed_urls,
        networks=remote.allowed_networks,
        fetch=fetch,
        max_bytes=origin_cache.item_bytes,
        connections=min(MAX_CONNECTIONS, origin_cache.max_concurrent),
    )


def settings_of(config: SourceConfig) -> HttpOriginSettings:
    """Raises ValueError."""
    return HttpOriginSettings(
        base=config.url, allowed=config.allowed_redirects, networks=config.allowed_networks, headers=config.headers
    )


def read_base(text: str) -> RemoteUrl:
    """A URL that ends in a slash. Raises ValueError."""
    if "*" in text:
        raise ValueError(f'"{text}" is not allowed; one URL without a *')
    return parse_entry(text).address


def fields_of(lines: tuple[str, ...]) -> dict[str, str]:
    """`Name: value` lines as header fields. Raises ValueError, which quotes nothing: any part may be the secret."""
    fields = {}
    for number, line in enumerate(lines, 1):
        name, _, value = (part.strip() for part in line.partition(":"))
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value) or name.lower() in _RESERVED_FIELDS:
            raise ValueError(
                f'headers: line {number} is not allowed; a "Name: value" line such as "Authorization: Bearer ...", '
                "no field that HTTP itself depends on"
            )
        fields[name] = value
    return fields
