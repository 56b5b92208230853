"""Enforces the security policy on each request, before any work is done for it: client lists and rate limits.

A route that the policy does not restrict keeps its handler unwrapped: its hits pay nothing for the policy.
"""

from functools import lru_cache
from math import ceil

from aiohttp import web

from imgserver.errors import AddressDenied, QuotaExceeded
from imgserver.security.client_ip import ClientAddressResolver
from imgserver.security.networks import NetworkSet, client_network, parse_address
from imgserver.security.policy import Policy, Rate
from imgserver.security.rate_limit import ClientRateLimiter
from imgserver.web.middleware import FastAdmission, Handler, Headers

# A probe is answered to every client, denied or not. Probes and scrapes have no rate limit.
PROBES = frozenset({"livez", "readyz", "health"})
UNLIMITED = PROBES | {"image_health", "metrics"}
UPLOADS = frozenset({"optimize"})
ADMIN = frozenset({"purge", "sweep"})

# Addresses whose verdict is cached.
MAX_VERDICTS = 4096


class AccessPolicy:
    """One policy, which never changes: a reload installs another object between two requests."""

    def __init__(self, policy: Policy, buckets: ClientRateLimiter) -> None:
        self._rates = policy.rates
        self._buckets = buckets
        self._has_lists = bool(policy.clients.deny or policy.clients.allow)
        self._deny, self._allow = NetworkSet(policy.clients.deny), NetworkSet(policy.clients.allow)
        self._addresses = ClientAddressResolver(policy.proxies)
        self._verdict = lru_cache(MAX_VERDICTS)(self._judge)
        self.has_proxies = bool(policy.proxies)

    def identify(self, request: web.Request) -> web.Request:
        """The request with the client's address as its `remote`, where a trusted proxy reports one."""
        peer = request.remote or ""
        client = self._client(peer, request.headers)
        return request if client == peer else request.clone(remote=client)

    def check_address(self, address: str) -> None:
        """Raises AddressDenied for an address that the lists refuse."""
        reason = self._verdict(address)[0] if self._has_lists else ""
        if reason:
            raise AddressDenied(list=reason)

    def fast_admission(self, route: str) -> FastAdmission | None:
        """The check for the fast path, which cannot await: it refuses everybody on a route with a rate limit.

        None: the route has no check."""
        _, rate = self._limit(route)
        if rate:
            return _refuse
        if route in PROBES or not (self._has_lists or self.has_proxies):
            return None

        def admit(peer: str, headers: Headers) -> str | None:
            client = self._client(peer, headers) if self.has_proxies else peer
            return None if self._has_lists and self._verdict(client)[0] else client

        return admit

    def wrap(self, handler: Handler, route: str) -> Handler:
        """The handler with the checks of this route; the handler itself when the route has none."""
        name, rate = self._limit(route)
        if rate:
            handler = self._limited(handler, name, rate)
        if self._has_lists and route not in PROBES:
            handler = self._listed(handler)
        return handler

    def _client(self, peer: str, headers: Headers) -> str:
        return self._addresses.resolve(peer, headers.getall(self._addresses.field, ()))

    def _limit(self, route: str) -> tuple[str, Rate]:
        if route in UNLIMITED:
            return "", Rate()
        if route in UPLOADS:
            return "uploads", self._rates.uploads
        return ("admin", self._rates.admin) if route in ADMIN else ("pictures", self._rates.pictures)

    def _listed(self, handler: Handler) -> Handler:
        check = self.check_address

        async def listed(request: web.Request) -> web.StreamResponse:
            check(request.remote or "")
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
        """The list that refuses this address, or "", and the client whose rate it counts against."""
        address = parse_address(text)
        if address is None:
            return "allow" if self._allow else "", "unknown"
        reason = "deny" if address in self._deny else "allow" if self._allow and address not in self._allow else ""
        return reason, client_network(address)


def _refuse(_: str, __: Headers) -> None:
    return None
