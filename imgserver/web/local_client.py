"""Whether a request comes from this machine itself."""

import re

from aiohttp import hdrs, web

from imgserver.security.networks import parse_address

# A name without a dot or below localhost, an IPv6 address, or an IPv4 address; then an optional port.
_HOST = re.compile(
    r"(?:((?:[\w-]+\.)*localhost|[A-Za-z_][\w-]*)|\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::\d{0,5})?",
    re.IGNORECASE | re.ASCII,
)
_PROXY_HEADERS = (hdrs.FORWARDED, hdrs.X_FORWARDED_FOR, "X-Real-IP", hdrs.VIA)


def is_local_client(request: web.BaseRequest) -> bool:
    """False for a request that a proxy forwards, and for one that a page of another site sends from a browser on this
    machine.

    The Host header is checked because of DNS rebinding: a browser takes a page whose name was made to resolve to this
    machine for a page of this server, and only the name reveals it.
    """
    address = parse_address(request.remote or "")
    if address is None or not address.is_loopback or not _is_local_host(request.headers.get(hdrs.HOST, "")):
        return False
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return False
    return not any(name in request.headers for name in _PROXY_HEADERS)


def _is_local_host(host: str) -> bool:
    """Whether no stranger's DNS can decide where this host leads: an address, a name without a dot, or no host."""
    found = _HOST.fullmatch(host)
    return host == "" or (
        found is not None and (found[1] is not None or parse_address(found[2] or found[3]) is not None)
    )
