"""Whether a request comes from this machine itself: one rule for the gallery, uploads, metrics and CORS."""

import re

from aiohttp import hdrs, web
from multidict import MultiMapping, istr

from imgserver.security.networks import parse_address

SEC_FETCH_SITE = istr("Sec-Fetch-Site")
# The header fields by which proxies, CDNs and tunnels name the client or themselves, in lower case; and the beginnings
# of such names.
FORWARDING_FIELDS = frozenset(
    {
        "cdn-loop",
        "client-ip",
        "do-connecting-ip",
        "fastly-client-ip",
        "fly-client-ip",
        "forwarded",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-envoy-external-address",
        "x-original-forwarded-for",
        "x-original-host",
        "x-real-ip",
    }
)
FORWARDING_PREFIXES = ("x-forwarded-", "cf-", "cloudfront-", "x-amz-cf-", "x-amzn-", "x-azure-")
# The first letters of all these names, as clients may write them: most header fields are told apart by one letter.
_INITIALS = frozenset(
    letter for name in (*FORWARDING_FIELDS, *FORWARDING_PREFIXES) for letter in (name[0], name[0].upper())
)

# An IPv6 address in brackets, or a name or IPv4 address; then an optional port.
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9.-]+))(?::([0-9]{0,5}))?", re.IGNORECASE | re.ASCII)
_IPV4 = re.compile(r"127(?:\.[0-9]{1,3}){3}", re.ASCII)
_SCHEMES = ("http://", "https://")


def is_local_client(request: web.BaseRequest) -> bool:
    """Whether the client, `request.remote`, and the host of the request are both this machine.

    False for a request that a proxy forwards, and for one that a page of another site sends from a browser on this
    machine. The Host header is checked because of DNS rebinding: a browser takes a page whose name was made to resolve
    to this machine for a page of this server, and only the name reveals it.
    """
    address, headers = parse_address(request.remote or ""), request.headers
    hosts = headers.getall(hdrs.HOST, ())
    return (
        address is not None
        and address.is_loopback
        and len(hosts) == 1
        and is_loopback_host(hosts[0])
        and not _is_from_another_page(headers, hosts[0])
        and not is_forwarded(headers)
    )


def is_loopback_host(host: str) -> bool:
    """Whether a Host header names this machine in a way that no DNS server can decide: `localhost`, 127.0.0.0/8 or
    [::1], with or without a port."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    if found[1] is not None:
        address = parse_address(found[1])
        return address is not None and address.is_loopback
    return found[2].lower() == "localhost" or (
        _IPV4.fullmatch(found[2]) is not None and parse_address(found[2]) is not None
    )


def is_forwarded(headers: MultiMapping[str]) -> bool:
    """Whether a proxy, a CDN or a tunnel has passed the request on, as far as its headers tell."""
    for name in headers:
        if name[0] in _INITIALS:
            lower = name.lower()
            if lower in FORWARDING_FIELDS or lower.startswith(FORWARDING_PREFIXES):
                return True
    return False


def _is_from_another_page(headers: MultiMapping[str], host: str) -> bool:
    """Whether a browser says that a page of another origin has caused the request. `null` is the origin of sandboxed
    pages, which may be anybody's."""
    if any(site.strip().lower() not in ("none", "same-origin") for site in headers.getall(SEC_FETCH_SITE, ())):
        return True
    own = {_without_default_port(scheme + host.lower()) for scheme in _SCHEMES}
    return any(_without_default_port(origin.strip().lower()) not in own for origin in headers.getall(hdrs.ORIGIN, ()))


def _without_default_port(origin: str) -> str:
    return origin.removesuffix(":80" if origin.startswith("http://") else ":443").removesuffix(":")
