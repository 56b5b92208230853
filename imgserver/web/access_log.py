"""The access log: one event per request, the request counters, and exactly one outcome per request for an image."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from imgserver.observability.logs import RequestLog, cut
from imgserver.observability.metrics import IMAGE_ROUTE
from imgserver.observability.request_counters import RequestCounters
from imgserver.security.redaction import redact
from imgserver.web import problem
from imgserver.web.images.responses import ImageResponse

# Probes and scrapes come every few seconds: they are counted, but logged only when they fail with 5xx.
QUIET_ROUTES = frozenset({"livez", "readyz", "health", "metrics"})
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"})
# A handler sets this on a request to add fields to its event.
EVENT_FIELDS: web.RequestKey[Mapping[str, Any]] = web.RequestKey("event_fields", Mapping[str, Any])
# The status that nginx logs for a request whose client disconnected before the response.
CLIENT_CLOSED_REQUEST = 499


class AccessLog:
    """Records each request once: with its response, or as disconnected."""

    def __init__(self, log: RequestLog) -> None:
        self.counters = RequestCounters()
        self.in_progress = 0
        self.disconnects = 0
        self._log = log

    def record_response(
        self, request: web.Request, response: web.StreamResponse, *, route: str, request_id: str, seconds: float
    ) -> None:
        if isinstance(response, ImageResponse):
            outcome, length, error, more = response.outcome, response.length, None, response.event_fields
        else:
            outcome, length = _outcome(route, response.status), response.content_length or 0
            error = response.headers.get(problem.CODE)
            more = request.get(EVENT_FIELDS)
        target = loggable_target(request.raw_path)
        self.record(
            request.method,
            target,
            request.remote,
            route,
            response.status,
            outcome,
            request_id,
            seconds,
            length,
            error,
            more,
        )

    def record_disconnect(self, request: web.Request, *, route: str, request_id: str, seconds: float) -> None:
        self.disconnects += 1
        outcome = "client_disconnected" if route == IMAGE_ROUTE else ""
        target = loggable_target(request.raw_path)
        self.record(
            request.method, target, request.remote, route, CLIENT_CLOSED_REQUEST, outcome, request_id, seconds, 0
        )

    def record(  # positional arguments: it is called for every hit
        self,
        method: str,
        loggable_target: str,
        remote: str | None,
        route: str,
        status: int,
        outcome: str,
        request_id: str,
        seconds: float,
        length: int,
        error: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """`outcome` is "" for other routes than the image route; `length` is in bytes, `more` are further fields."""
        self.counters.count(route, method if method in METHODS else "other", status, length=length, seconds=seconds)
        if outcome:
            self.counters.outcomes[outcome] += 1
        if route in QUIET_ROUTES and status < 500:
            return
        fields = {
            "request_id": request_id,
            "method": method,
            "target": loggable_target,
            "route": route,
            "status": status,
            "outcome": outcome or None,
            "error": error,
            "bytes": length,
            "seconds": round(seconds, 6),
            "remote": remote,
        }
        if more:
            fields.update(more)
        self._log(fields)


def loggable_target(target: str) -> str:
    """The target as it may stand in a log: shortened, and without signatures, passwords and keys, which a reader of the
    log could use."""
    return cut(redact(target))


def _outcome(route: str, status: int) -> str:
    """The outcome of a response without a rendition; "" for other routes than the image route."""
    if route != IMAGE_ROUTE:
        return ""
    if status < 400:
        return "preflight"
    if status == 503:
        return "shed"
    return "failed" if status >= 500 and status != 501 else "refused"
