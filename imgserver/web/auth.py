"""Authentication by API key: checks the key and its scope, limits guessing, and audits every refusal."""

import time
from collections.abc import Callable
from functools import partial

from aiohttp import hdrs, web

from imgserver.errors import Forbidden, TooManyFailures, Unauthorized
from imgserver.observability.audit import Audit, request_context
from imgserver.runtime.ttl_map import TtlMap
from imgserver.security.api_keys import ApiKeys
from imgserver.security.networks import client_network, parse_address

MAX_FAILURES = 10
WINDOW_SECONDS = 60.0
MAX_CLIENTS = 4096
# A request without a key, or with a valid key for another scope, does not guess.
GUESSES = frozenset({"malformed", "unknown_key"})


class FailureCounts:
    """Wrong keys per client, in windows of one minute that begin with a client's first wrong key. The client whose last
    failure is oldest is evicted first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # The count, and the end of the window.
        self._windows: TtlMap[str, tuple[int, float]] = TtlMap(WINDOW_SECONDS, max_entries=MAX_CLIENTS, clock=clock)

    def __len__(self) -> int:
        """The clients that are counted."""
        return len(self._windows)

    def add(self, client: str) -> None:
        now = self._clock()
        count, end = self._windows.get(client) or (0, now + WINDOW_SECONDS)
        self._windows.put(client, (count + 1, end), ttl_seconds=end - now)

    def blocked_seconds(self, client: str) -> float:
        """How long this client is still refused; 0 when it is not refused."""
        count, end = self._windows.get(client) or (0, 0.0)
        return end - self._clock() if count >= MAX_FAILURES else 0.0


class Authenticator:
    """One for the whole server, so that failures at all endpoints count together."""

    def __init__(self, keys: ApiKeys, audit: Audit, failures: FailureCounts | None = None) -> None:
        self.keys = keys
        self.audit = audit
        self._failures = failures if failures is not None else FailureCounts()

    def adopt(self, keys: ApiKeys) -> None:
        """Uses other keys from the next request on. The failures stay counted."""
        self.keys = keys

    def require(self, request: web.Request, scope: str, *, route: str) -> str:
        """Returns the id of the request's key; `route` is a fact of the audit event.

        Raises Unauthorized and Forbidden, and TooManyFailures, without checking the key, for a client that keeps
        sending wrong keys.
        """
        client = _client_of(request.remote or "")
        audit = partial(self.audit, "auth_failed", route=route, **request_context())
        seconds = self._failures.blocked_seconds(client)
        if seconds > 0:
            audit(reason="too_many")
            raise TooManyFailures(retry_after=max(1, round(seconds)))
        try:
            return self.keys.check(request.headers.get(hdrs.AUTHORIZATION), scope)
        except (Unauthorized, Forbidden) as error:
            reason = error.facts["reason"]
            audit(reason=reason, key=error.facts.get("key"), scope=scope)
            if reason in GUESSES:
                self._failures.add(client)
            raise


def _client_of(text: str) -> str:
    """The client that an address belongs to: an IPv6 client owns a whole /64."""
    address = parse_address(text)
    return client_network(address) if address is not None else text
