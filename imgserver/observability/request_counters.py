"""Counters of answered requests: plain integers on the event loop, converted to metrics at each scrape.

Hits are answered ten thousand times per second. The instruments of prometheus_client have a lock each, and would take a
tenth of that time. Everything that is rarer than a hit uses the instruments of `observability/metrics.py`.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from imgserver.observability.metrics import IMAGE_ROUTE, OUTCOMES, PREFIX, SECONDS

# These series exist from the start: one that is missing until its first event would hide an alert.
EXPECTED_STATUS = (200, 304, 400, 404, 422, 503, 504)


@dataclass(slots=True)
class RouteCounters:
    """The counters of one route: body bytes, total seconds, and responses per bucket of SECONDS; the last bucket has no
    upper bound."""

    bytes: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))


class RequestCounters(Collector):
    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.routes: dict[str, RouteCounters] = {IMAGE_ROUTE: RouteCounters()}
        self.outcomes: Counter[str] = Counter()
        for status in EXPECTED_STATUS:
            self.requests[IMAGE_ROUTE, "GET", status] = 0

    def count(self, route: str, method: str, status: int, *, length: int, seconds: float) -> None:
        self.requests[route, method, status] += 1
        counters = self.routes.get(route)
        if counters is None:
            counters = self.routes[route] = RouteCounters()
        counters.bytes += length
        counters.seconds += seconds
        counters.buckets[bisect_left(SECONDS, seconds)] += 1

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            PREFIX + "http_requests", "Requests by route, method and status", labels=("route", "method", "status")
        )
        for (route, method, status), count in self.requests.items():
            requests.add_metric((route, method, str(status)), count)
        outcomes = CounterMetricFamily(PREFIX + "lookups", "Requests for images by outcome", labels=("outcome",))
        for outcome in OUTCOMES:
            outcomes.add_metric((outcome,), self.outcomes[outcome])
        length = CounterMetricFamily(PREFIX + "http_response_bytes", "Bytes of response bodies", labels=("route",))
        seconds = HistogramMetricFamily(
            PREFIX + "http_request_duration_seconds", "From the start of the handler to its response", labels=("route",)
        )
        for route, counters in self.routes.items():
            length.add_metric((route,), counters.bytes)
            bounds = (*map(str, SECONDS), "+Inf")
            seconds.add_metric((route,), list(zip(bounds, accumulate(counters.buckets), strict=True)), counters.seconds)
        return requests, outcomes, length, seconds
