"""URLs of originals on other servers: one parser and one normal form for request URLs, settings and redirects.

    remote-url = ( "http:" | "https:" ) ( "//" | "/" ) host [ ":" port ] [ "/" path ] [ "?" query ]

The parser lowercases scheme and host, encodes the host by IDNA, drops the default port and an empty query, and
percent-encodes what is not visible ASCII: `HTTPS://Bücher.example:443/ä b.jpg` is
`https://xn--bcher-kva.example/%C3%A4%20b.jpg`. The rest of path and query is unchanged, byte for byte. One
slash after the scheme is accepted for two, because some proxies merge them.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Literal, NoReturn
from urllib.parse import quote, unquote_to_bytes

from imgserver.errors import BadSourcePath

# The source name of originals by remote URL. No configured source can have this name: names contain no colon.
REMOTE = "remote:"
# The identifier of this kind of server in CDN-Loop (RFC 8586).
CDN_LOOP_ID = "imgserver"

Scheme = Literal["http", "https"]
PORTS: dict[Scheme, int] = {"http": 80, "https": 443}

_BEGINNING = re.compile(r"https?:/", re.IGNORECASE)
_PARTS = re.compile(r"(https?)://?([^/?#]*)([^?#]*)(?:\?([^#]*))?(#?)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]@]+)(?::([0-9]{0,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# Resolvers take a name with such a last label for an IPv4 address in some form: 127.1, 0x7f.1, 2130706433.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_HIDDEN_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_VISIBLE = re.compile(r"[^\x21-\x7e]+")
LONGEST_NAME = 253


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """A well-formed URL without user, fragment and dot segments. `str()` is its normal form.

    `host` is an ASCII name or an IP address (IPv6 without brackets). `path` begins with a slash. `path` and `query` are
    percent-encoded.
    """

    scheme: Scheme
    host: str
    port: int
    path: str = "/"
    query: str = ""

    @property
    def origin(self) -> tuple[Scheme, str, int]:
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{host}{port}{self.path}{query}"


def is_remote_url(text: str) -> bool:
    """Whether the text is meant as a remote URL, well formed or not. Any other text is a path."""
    return _BEGINNING.match(text) is not None


def parse(text: str) -> RemoteUrl:
    """Raises BadSourcePath for a malformed URL. The text is percent-encoded as in a URL."""
    if "\\" in text or _CONTROL.search(text):
        _refuse("contains no backslash and no control character")
    parts = _PARTS.match(text)
    if parts is None:
        _refuse("begins with http:// or https://")
    if parts[5]:
        _refuse("has no fragment; a # in a file name is %23")
    scheme: Scheme = "https" if len(parts[1]) == len("https") else "http"
    host, port = _authority(parts[2])
    path, query = _encoded(parts[3] or "/"), _encoded(parts[4] or "")
    _check_path(path)
    return RemoteUrl(scheme, host, PORTS[scheme] if port is None else port, path, query)


def _authority(text: str) -> tuple[str, int | None]:
    if "@" in text:
        _refuse("has no user and no password")
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        _refuse("has a host after its scheme, and a port in digits")
    port = int(found[2]) if found[2] else None
    if port is not None and not 0 < port < 65_536:
        _refuse("has a port from 1 to 65535")
    return _host(found[1]), port


def _host(raw: str) -> str:
    if raw.startswith("["):
        return _ip(IPv6Address, raw[1:-1])
    name = (raw.lower() if raw.isascii() else _idna(raw)).removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ip(IPv4Address, name)
    if len(name) > LONGEST_NAME or not all(map(_LABEL.fullmatch, labels)):
        _refuse("has a host of letters, digits, hyphens and dots")
    return name


def _ip(kind: type[IPv4Address | IPv6Address], text: str) -> str:
    try:
        return str(kind(text))
    except AddressValueError:
        _refuse("has an IPv4 address as four decimal numbers, and IPv6 in brackets")


def _idna(name: str) -> str:
    import idna  # imported only when needed: its tables are large

    try:
        return idna.encode(name, uts46=True).decode()
    except idna.IDNAError:
        _refuse("has a host name that can be encoded in ASCII (IDNA)")


def _encoded(text: str) -> str:
    if _STRAY_PERCENT.search(text):
        _refuse("has two hex digits after every %; a percent sign itself is %25")
    if _HIDDEN_CONTROL.search(unquote_to_bytes(text)):
        _refuse("contains no control character, encoded or not")
    return _NOT_VISIBLE.sub(lambda found: quote(found[0]), text)


def _check_path(path: str) -> None:
    """Refuses what another server might take for a path out of its folder: `..`, `%2e.`, `a%2F..`, `..;x`, `..%5C`."""
    plain = unquote_to_bytes(path)
    if b"\\" in plain:
        _refuse("contains no backslash and no control character")
    if any(name.partition(b";")[0] in (b".", b"..") for name in plain.split(b"/")):
        _refuse("has no . or .. between slashes")


def _refuse(what: str) -> NoReturn:
    raise BadSourcePath(f"a remote URL {what}")
