"""What is written down about each request: one wide event, its counts, and exactly one outcome per picture."""

import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from imgserver.observability.logs import RequestLog, cut
from imgserver.observability.metrics import IMAGE_ROUTE
from imgserver.observability.request_counters import RequestCounters
from imgserver.web import problem
from imgserver.web.images.responses import Spelled, Told

# Probes and scrapes come every few seconds for ever; they are counted, and logged only when something is wrong.
QUIET_ROUTES = frozenset({"livez", "readyz", "health", "metrics"})
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"})
SIGNATURE = re.compile(r"/s--[^/]*--/")
# Keys are taken from a header field alone; who sends one in the URL all the same must not find it in the log.
KEY = re.compile(r"([?&][^=&]*(?:key|token|secret|password|auth|signature)[^=&]*=)[^&]*", re.IGNORECASE)
# Set on a request by a handler that has more to tell: a mapping of facts for its event.
FACTS: web.RequestKey[Mapping[str, Any]] = web.RequestKey("facts", Mapping[str, Any])
# What the trade calls the status of an answer that nobody waited for.
CLIENT_DISCONNECTED = 499

# Method, target and client's address of a request.
Asked = tuple[str, str, str | None]


class AccessLog:
    """One entry per request: `answered`, or `left` when the client went before its answer."""

    def __init__(self, log: RequestLog) -> None:
        self.counters = RequestCounters()
        self.in_progress = 0
        self.disconnects = 0
        self._log = log

    def answered(
        self, request: web.Request, response: web.StreamResponse, *, route: str, request_id: str, seconds: float
    ) -> None:
        if isinstance(response, Told):
            outcome, length, error = response.outcome, response.length, None
        else:
            outcome, length = _outcome(route, response.status), response.content_length or 0
            error = response.headers.get(problem.CODE)
        more = request.get(FACTS, {}) if route != IMAGE_ROUTE else {}
        asked = request.method, request.raw_path, request.remote
        self._enter(asked, route, response.status, outcome, request_id, seconds, length, error, more)

    def answered_at_once(self, asked: Asked, spelled: Spelled, *, route: str, request_id: str, seconds: float) -> None:
        length = len(spelled.body)
        self._enter(asked, route, spelled.status, spelled.outcome, request_id, seconds, length, None, {})

    def left(self, request: web.Request, *, route: str, request_id: str, seconds: float) -> None:
        self.disconnects += 1
        outcome = "client_disconnected" if route == IMAGE_ROUTE else ""
        asked = request.method, request.raw_path, request.remote
        self._enter(asked, route, CLIENT_DISCONNECTED, outcome, request_id, seconds, 0, None, {})

    def _enter(  # positional: it is entered for every hit
        self,
        asked: Asked,
        route: str,
        status: int,
        outcome: str,
        request_id: str,
        seconds: float,
        length: int,
        error: str | None,
        more: Mapping[str, Any],
    ) -> None:
        method, target, remote = asked
        self.counters.count(route, method if method in METHODS else "other", status, length=length, seconds=seconds)
        if outcome:
            self.counters.outcomes[outcome] += 1
        if route in QUIET_ROUTES and status < 500:
            return
        facts = {
            "request_id": request_id,
            "method": method,
            "target": _shown(target, route),
            "route": route,
            "status": status,
            "outcome": outcome or None,
            "error": error,
            "bytes": length,
            "seconds": round(seconds, 6),
            "remote": remote,
        }
        self._log({**facts, **more} if more else facts)


def _shown(target: str, route: str) -> str:
    """A target as logs may have it: whoever reads them cannot follow signed links, nor use a misplaced key."""
    if "/s--" in target:
        target = SIGNATURE.sub("/s--...--/", target, count=1)
    # Cut first: in a long text of keys without values, the pattern would look for an end from each.
    return cut(target) if route == IMAGE_ROUTE else KEY.sub(r"\1...", cut(target))


def _outcome(route: str, status: int) -> str:
    """Of what is no picture, or "" where none was asked for."""
    if route != IMAGE_ROUTE:
        return ""
    if status < 400:
        return "preflight"
    if status == 503:
        return "shed"
    return "failed" if status >= 500 and status != 501 else "refused"
