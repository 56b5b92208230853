"""The gate: what a policy asks of a request before any work is done for it.

Where a policy asks nothing, there is no gate: the handler stays as it is, and a hit costs what it cost.
"""

import re
from functools import lru_cache
from math import ceil

from aiohttp import hdrs, web

from imgserver.errors import AddressDenied, QuotaExceeded
from imgserver.security.client_ip import ClientAddresses
from imgserver.security.networks import NetworkSet, address_of, client_network
from imgserver.security.policy import Policy, Rate
from imgserver.security.rate_limit import ClientBuckets
from imgserver.web.middleware import Admit, Handler, Headers, anybody

# Whoever has to know whether the server lives is answered, on whatever list; and a probe or scrape is never limited.
PROBES = frozenset({"livez", "readyz", "health"})
UNLIMITED = PROBES | {"image_health", "metrics"}
UPLOADS = frozenset({"optimize"})
ADMIN = frozenset({"purge", "sweep"})

VERDICTS = 4096
# A name without a dot (or below localhost), an address of version 6, one of version 4; then a port.
_HOST = re.compile(
    r"(?:((?:[\w-]+\.)*localhost|[A-Za-z_][\w-]*)|\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::\d{0,5})?",
    re.IGNORECASE | re.ASCII,
)


class AccessPolicy:
    """One policy. Between requests it may be replaced by another."""

    def __init__(self, policy: Policy, buckets: ClientBuckets) -> None:
        self._rates = policy.rates
        self._buckets = buckets
        self._has_lists = bool(policy.clients.deny or policy.clients.allow)
        self._deny, self._allow = NetworkSet(policy.clients.deny), NetworkSet(policy.clients.allow)
        self._addresses = ClientAddresses(policy.proxies)
        self._verdict = lru_cache(VERDICTS)(self._judge)
        self.has_proxies = bool(policy.proxies)

    def identify(self, request: web.Request) -> web.Request:
        """The request with the client's own address as its `remote`."""
        peer = request.remote or ""
        client = self._client(peer, request.headers)
        return request if client == peer else request.clone(remote=client)

    def at_once(self, route: str) -> Admit:
        """The same for what is answered without waiting: a rate has to be waited for, so that nobody is admitted."""
        _, rate = self._limit(route)
        if rate:
            return _nobody
        if route in PROBES or not (self._has_lists or self.has_proxies):
            return anybody

        def admit(peer: str, headers: Headers) -> str | None:
            client = self._client(peer, headers) if self.has_proxies else peer
            return None if self._has_lists and self._verdict(client)[0] else client

        return admit

    def around(self, handler: Handler, route: str) -> Handler:
        """The handler behind what this policy asks on such a route; the handler itself where it asks nothing."""
        name, rate = self._limit(route)
        if rate:
            handler = self._limited(handler, name, rate)
        if self._has_lists and route not in PROBES:
            handler = self._listed(handler)
        return handler

    def _client(self, peer: str, headers: Headers) -> str:
        return self._addresses.of(peer, headers.getall(self._addresses.field, ()))

    def _limit(self, route: str) -> tuple[str, Rate]:
        if route in UNLIMITED:
            return "", Rate()
        if route in UPLOADS:
            return "uploads", self._rates.uploads
        return ("admin", self._rates.admin) if route in ADMIN else ("pictures", self._rates.pictures)

    def _listed(self, handler: Handler) -> Handler:
        verdict = self._verdict

        async def listed(request: web.Request) -> web.StreamResponse:
            reason, _ = verdict(request.remote or "")
            if reason:
                raise AddressDenied(list=reason)
            return await handler(request)

        return listed

    def _limited(self, handler: Handler, name: str, rate: Rate) -> Handler:
        verdict, buckets = self._verdict, self._buckets

        async def limited(request: web.Request) -> web.StreamResponse:
            _, client = verdict(request.remote or "")
            wait = await buckets.take(f"{name}:{client}", per_second=rate.per_second, burst=rate.burst)
            if wait:
                raise QuotaExceeded(reason=name, retry_after=max(1, ceil(wait)))
            return await handler(request)

        return limited

    def _judge(self, text: str) -> tuple[str, str]:
        """The list that refuses this address, or "", and the client it counts as."""
        address = address_of(text)
        if address is None:
            return "allow" if self._allow else "", "unknown"
        reason = "deny" if address in self._deny else "allow" if self._allow and address not in self._allow else ""
        return reason, client_network(address)


def _nobody(_: str, __: Headers) -> None:
    return None


def is_from_here(request: web.BaseRequest) -> bool:
    """Whether this very machine asks, and not somebody else through a proxy or a page in the browser on it.

    A page whose name was made to lead here (DNS rebinding) is of the same origin to its browser: only the name tells.
    """
    address = address_of(request.remote or "")
    if address is None or not address.is_loopback or not _names_here(request.headers.get(hdrs.HOST, "")):
        return False
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return False
    return not any(name in request.headers for name in (hdrs.FORWARDED, hdrs.X_FORWARDED_FOR, "X-Real-IP", hdrs.VIA))


def _names_here(host: str) -> bool:
    """Nobody can make an address, or a name without a dot, lead elsewhere than it does."""
    found = _HOST.fullmatch(host)
    return host == "" or (found is not None and (found[1] is not None or address_of(found[2] or found[3]) is not None))
