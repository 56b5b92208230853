"""Authentication by API key: checks the key and its scope, limits guessing, and audits every refusal.

A valid key is accepted whatever else its client's address has sent: behind a proxy that `proxies` does not name, all
clients share one address, and a stranger's guesses must not lock the owner out.
"""

import time
from collections.abc import Callable
from functools import partial

from aiohttp import hdrs, web

from imgserver.errors import Forbidden, ImgserverError, TooManyFailures, Unauthorized
from imgserver.observability.audit import Audit, request_context
from imgserver.runtime.ttl_map import TtlMap
from imgserver.security.api_keys import ApiKeys, claimed_id
from imgserver.security.networks import client_network, parse_address

MAX_FAILURES = 10
WINDOW_SECONDS = 60.0
# Of pairs of a client and a key id. Each takes at most MAX_PAIR_CHARACTERS, so the table stays below 2 MB.
MAX_PAIRS = 4096
MAX_PAIR_CHARACTERS = 96
# A request without a key, or with a valid key for another scope, does not guess.
GUESSES = frozenset({"malformed", "unknown_key"})


class FailureCounts:
    """Wrong keys per client and key id, in windows of one minute that begin with the first wrong key. The pair whose
    last failure is oldest is evicted first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # The count, and the end of the window.
        self._windows: TtlMap[str, tuple[int, float]] = TtlMap(WINDOW_SECONDS, max_entries=MAX_PAIRS, clock=clock)

    def __len__(self) -> int:
        """The pairs that are counted."""
        return len(self._windows)

    def add(self, client: str, key_id: str) -> float:
        """Counts one wrong key. Returns the seconds until the window ends if it has had MAX_FAILURES before, else
        0."""
        pair, now = f"{client} {key_id}"[:MAX_PAIR_CHARACTERS], self._clock()
        count, end = self._windows.get(pair) or (0, now + WINDOW_SECONDS)
        if count >= MAX_FAILURES:
            return end - now
        self._windows.put(pair, (count + 1, end), ttl_seconds=end - now)
        return 0.0


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

        Raises Unauthorized and Forbidden, and TooManyFailures for a wrong key from a client that keeps sending wrong
        keys of one id.
        """
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        try:
            return self.keys.check(authorization, scope)
        except (Unauthorized, Forbidden) as error:
            self._report(error, request, authorization or "", scope=scope, route=route)
            raise

    def _report(
        self, error: ImgserverError, request: web.Request, authorization: str, *, scope: str, route: str
    ) -> None:
        """Audits the refusal. Raises TooManyFailures."""
        reason = error.facts["reason"]
        audit = partial(self.audit, "auth_failed", route=route, **request_context())
        seconds = 0.0
        if reason in GUESSES:
            seconds = self._failures.add(_client_of(request.remote or ""), claimed_id(authorization))
        if seconds > 0:
            audit(reason="too_many")
            raise TooManyFailures(retry_after=max(1, round(seconds)))
        audit(reason=reason, key=error.facts.get("key"), scope=scope)


def _client_of(text: str) -> str:
    """The client that an address belongs to: an IPv6 client owns a whole /64."""
    address = parse_address(text)
    return client_network(address) if address is not None else text
