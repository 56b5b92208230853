"""Doors that a key opens: checks it, counts who tries in vain, and audits every refusal."""

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from aiohttp import hdrs, web

from imgserver.errors import Forbidden, TooManyFailures, Unauthorized
from imgserver.observability.audit import Audit, asked
from imgserver.security.api_keys import ApiKeys
from imgserver.security.networks import address_of, client_network

FAILURES = 10
WINDOW_SECONDS = 60.0
ADDRESSES = 4096


class Failures:
    """Wrong keys by address, in windows of a minute; a bounded table, who failed longest ago gives way."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def note(self, address: str) -> None:
        count, since = self._of(address)
        self._counts[address] = count + 1, since
        self._counts.move_to_end(address)
        if len(self._counts) > ADDRESSES:
            self._counts.popitem(last=False)

    def left_seconds(self, address: str) -> float:
        """How long this address is refused; 0 when it is not."""
        count, since = self._of(address)
        return since + WINDOW_SECONDS - self._clock() if count >= FAILURES else 0.0

    def _of(self, address: str) -> tuple[int, float]:
        now = self._clock()
        count, since = self._counts.get(address, (0, now))
        return (count, since) if now - since < WINDOW_SECONDS else (0, now)


class Authenticator:
    """One for the whole server, so that failures at one endpoint count at all."""

    def __init__(self, keys: ApiKeys, audit: Audit, failures: Failures | None = None) -> None:
        self.keys = keys
        self.audit = audit
        self._failures = failures or Failures()

    def adopt(self, keys: ApiKeys) -> None:
        """From the next request on; who sent wrong ones is not forgotten."""
        self.keys = keys

    def require(self, request: web.Request, scope: str, *, route: str) -> str:
        """The id of the key; `route` is what the audit is told beside a refusal.

        Raises Unauthorized, Forbidden; TooManyFailures, without a look at the key, for an address that keeps sending
        wrong ones.
        """
        address = _client(request.remote or "")
        tell = partial(self.audit, "auth_failed", route=route, **asked())
        left = self._failures.left_seconds(address)
        if left > 0:
            tell(reason="too_many")
            raise TooManyFailures(retry_after=max(1, round(left)))
        try:
            return self.keys.check(request.headers.get(hdrs.AUTHORIZATION), scope)
        except (Unauthorized, Forbidden) as error:
            reason, key_id = error.facts["reason"], error.facts.get("key")
            tell(reason=reason, key=key_id, scope=scope)
            # Who asks without a key, or with a good one for something else, is not guessing.
            if reason in ("malformed", "unknown_key"):
                self._failures.note(address)
            raise


def _client(text: str) -> str:
    """Whom failures are counted for: IPv6 clients have a whole /64 to come from."""
    address = address_of(text)
    return client_network(address) if address is not None else text
