"""What is written down about each request: one wide event, its metrics, and exactly one outcome per picture."""

from functools import cache

from aiohttp import web
from prometheus_client import Counter, Histogram
from structlog.typing import FilteringBoundLogger

from imgserver.logs import cut
from imgserver.metrics import Metrics

# What the image handler says became of the request: a key of the response, never a header.
OUTCOME = "imgserver.outcome"
IMAGE_ROUTE = "image"
# Probes and scrapes come every few seconds for ever; they are counted, and logged only when something is wrong.
QUIET_ROUTES = frozenset({"livez", "readyz", "health", "metrics"})
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"})


class Ledger:
    def __init__(self, metrics: Metrics, logger: FilteringBoundLogger) -> None:
        self._metrics = metrics
        self._logger = logger
        # Looking a child up by its labels costs as much as a cache hit's whole parsing.
        self._requests = cache(self._requests_of)
        self._seconds = cache(self._seconds_of)
        self._outcomes = cache(metrics.lookups.labels)

    def answered(self, request: web.Request, response: web.StreamResponse, request_id: str, seconds: float) -> None:
        route, status = route_of(request), response.status
        outcome = response.get(OUTCOME) or _outcome(route, status)
        self._requests(route, request.method, status).inc()
        self._seconds(route).observe(seconds)
        if outcome is not None:
            self._outcomes(outcome).inc()
        if route not in QUIET_ROUTES or status >= 500:
            self._write(request, route, status, outcome, request_id, seconds, _length(response))

    def left(self, request: web.Request, request_id: str, seconds: float) -> None:
        """The client went before its answer; 499 is what the trade calls that."""
        self._metrics.disconnects.inc()
        if route_of(request) == IMAGE_ROUTE:
            self._metrics.lookups.labels("left").inc()
        self._write(request, route_of(request), 499, "left", request_id, seconds, 0)

    def _write(
        self,
        request: web.Request,
        route: str,
        status: int,
        outcome: str | None,
        request_id: str,
        seconds: float,
        length: int,
    ) -> None:
        self._logger.info(
            "request",
            request_id=request_id,
            method=request.method,
            target=cut(request.raw_path),
            route=route,
            status=status,
            outcome=outcome,
            bytes=length,
            seconds=round(seconds, 6),
            remote=request.remote,
        )

    def _requests_of(self, route: str, method: str, status: int) -> Counter:
        return self._metrics.requests.labels(route, method if method in METHODS else "other", str(status))

    def _seconds_of(self, route: str) -> Histogram:
        return self._metrics.request_seconds.labels(route)


def route_of(request: web.Request) -> str:
    """The route's name; whatever matches none shares one label."""
    return request.match_info.route.name or "other"


def _outcome(route: str, status: int) -> str | None:
    """Of an error, or of nothing: only pictures have outcomes."""
    if route != IMAGE_ROUTE:
        return None
    if status == 503:
        return "shed"
    return "failed" if status >= 500 and status != 501 else "refused"


def _length(response: web.StreamResponse) -> int:
    return response.body_length or response.content_length or 0
