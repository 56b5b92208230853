"""The declarations of all metrics. The server process has the only registry: workers return their timings with their
results.

There are two kinds: instruments, which are changed at each event, and state, which is read from the frozen statistics
of the components at each scrape. No URL, path, key or text of a client is ever a label.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX = "imgserver_"

# 2 and 5 seconds are alert thresholds, so they are exact.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
BYTES = tuple(4.0**power for power in range(5, 13))  # 1 kB to 16 MB

# A creation time for every series would double the size of a scrape, and adds nothing to the restart counters.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

# The ratio is 1 for a result of the same size as its original.
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 2.0)

IMAGE_ROUTE = "image"
UPLOAD_RESULTS = ("ok", "refused", "shed", "failed", "client_disconnected")
# The outcomes of a request for an image; each request is counted in exactly one.
OUTCOMES = (
    "hit",
    "stale",
    "joined",
    "rendered",
    "not_modified",
    "refused",
    "shed",
    "failed",
    "client_disconnected",
    "preflight",
)

# Every name that a background task is started with (runtime/background.py).
BACKGROUND_TASKS = (
    "cache_maintenance",
    "disk_measurement",
    "disk_sweep",
    "loop_lag_probe",
    "memory_sweep",
    "origin_cache_sweep",
    "purge_subscription",
    "redis_cleanup",
    "redis_read_probe",
    "redis_sweep",
    "redis_write_probe",
    "refresh",
    "reload",
    "write_behind",
)


class Metrics:
    """The instruments of one server, in a registry of their own, so that several servers can live in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, text, labels, registry=registry)

        def seconds(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(PREFIX + name, text, labels, registry=registry, buckets=SECONDS)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(PREFIX + name, text, labels, registry=registry)

        self.build = gauge("build_info", "Always 1; the versions are in the labels", "version", "libvips")
        self.loop_lag = gauge("event_loop_lag_seconds", "Delay of the event loop at the last probe")
        self.images = counter("images_total", "Renders by format and result", "input", "output", "result")
        self.pipeline_seconds = seconds("pipeline_seconds", "Wall time of a render's stages", "stage", "format")
        self.source_bytes = counter("source_bytes_total", "Bytes of originals read", "format")
        self.result_bytes = counter("result_bytes_total", "Bytes of rendered images", "format")
        self.queue_wait = seconds("queue_wait_seconds", "Wait for a worker", "queue")
        self.worker_start = seconds("worker_start_seconds", "From the start of a worker to its first response")
        self.redis_command = seconds("redis_command_seconds", "Time of Redis commands that were answered", "op")
        self.cache_value = Histogram(
            PREFIX + "cache_value_bytes",
            "Size of the bodies that were put into the cache",
            registry=registry,
            buckets=BYTES,
        )
        self.task_timeouts = counter("task_timeouts_total", "Renders killed at their deadline")
        self.security = counter("security_events_total", "Access-control and security events", "event", "reason")
        self.policy_info = gauge("policy_info", "Always 1; the digest of the current policy file", "digest")
        self.policy_reloaded = gauge("policy_last_reload_successful", "0 while the policy file is refused")
        self.policy_reloaded_at = gauge(
            "policy_last_reload_success_timestamp_seconds", "When the current policy was read"
        )
        self.settings_reloaded = gauge("settings_last_reload_successful", "0 while the changed settings are refused")
        self.settings_reloaded_at = gauge(
            "settings_last_reload_success_timestamp_seconds", "When the current keys and presets were read"
        )
        self.source_fetch = seconds(
            "source_fetch_seconds", 'Requests to origins that were answered, "not found" included', "source"
        )
        self.source_errors = counter("source_errors_total", "Requests to origins that failed", "source", "reason")
        self.uploads = counter("uploads_total", "Uploaded images by result", "result")
        self.upload_bytes = counter("upload_bytes_total", "Bytes of uploaded images, and of their results", "direction")
        text = "Size of a result divided by the size of its upload"
        self.upload_ratio = Histogram(PREFIX + "upload_compression_ratio", text, registry=registry, buckets=RATIOS)
        self.task_failures = counter(
            "background_task_failures_total", "Unexpected exceptions of background tasks, which are restarted", "task"
        )
        self._create_series()

    def _create_series(self) -> None:
        """Creates the known label sets: a series that is missing until its first event would hide an alert."""
        for queue in ("render", "upload"):
            self.queue_wait.labels(queue)
        for result in UPLOAD_RESULTS:
            self.uploads.labels(result)
        for direction in ("in", "out"):
            self.upload_bytes.labels(direction)
        for task in BACKGROUND_TASKS:
            self.task_failures.labels(task)

    def watch(self, read: Callable[[], "State"]) -> None:
        """Calls `read` at each scrape, which returns the values of the series in STATE."""
        self.registry.register(_StateCollector(read))


# A plain value, or one value per label value(s).
State = Mapping[str, float | Mapping[str, float] | Mapping[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class Series:
    """One metric whose values are read at each scrape."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"


STATE = (
    Series("ready", "1 while the server accepts requests for images"),
    Series("http_connections", "Open client connections"),
    Series("http_connections_limit", "Maximum number of open client connections"),
    Series(
        "http_connections_shed_total",
        "Connections closed because the limit was reached: idle ones, or new ones if none was idle",
        ("what",),
        "counter",
    ),
    Series("http_requests_in_progress", "Requests being answered now"),
    Series("client_disconnects_total", "Clients that disconnected before their response", (), "counter"),
    Series("http_malformed_total", "Requests that the HTTP parser refused", (), "counter"),
    Series("http_overdue_total", "Connections closed because the client was too slow", ("what",), "counter"),
    Series("queue_jobs", "Renders and uploads that wait, are received, or run", ("queue", "state")),
    Series("queue_limit", "Maximum number of waiting renders", ("queue",)),
    Series("queue_oldest_job_age_seconds", "Age of the longest waiting render", ("queue",)),
    Series("upload_space_bytes", "Bytes of the temporary files of uploads"),
    Series("waiting_tickets", "Waiting renders by class", ("class",)),
    Series("predicted_wait_seconds", "Predicted wait of a new render"),
    Series("decoded_bytes_in_flight", "Estimated decoded bytes of the running renders"),
    Series("shed_total", "Requests refused for lack of capacity", ("reason",), "counter"),
    Series("degraded_total", "Renditions degraded under load", ("step",), "counter"),
    Series("coalesced_total", "Requests that shared a render in flight", (), "counter"),
    Series("workers", "Worker processes", ("state",)),
    Series("worker_busy_seconds_total", "Time that workers spent on renders", (), "counter"),
    Series("worker_restarts_total", "Workers replaced", ("reason",), "counter"),
    Series("worker_rss_bytes", "Resident memory of a worker after its last render", ("slot",)),
    Series("quarantined_keys", "Images in quarantine because they killed workers"),
    Series("negative_cache_entries", "Refused renditions and absent originals in the negative cache"),
    Series(
        "negative_cache_hits_total", "Requests refused by the negative cache, without I/O or a render", (), "counter"
    ),
    Series("cache_requests_total", "Lookups by tier; each has exactly one result", ("tier", "result"), "counter"),
    Series("cache_evictions_total", "Entries evicted to stay within the limit", ("tier",), "counter"),
    Series("cache_entries", "Entries in the tier", ("tier",)),
    Series("cache_size_bytes", "Bytes in the tier", ("tier",)),
    Series("cache_limit_bytes", "Limit of the tier in bytes", ("tier",)),
    Series("cache_corrupt_total", "Records that failed their verification", ("tier", "reason"), "counter"),
    Series("cache_dropped_writes_total", "Records that were not written", ("tier", "reason"), "counter"),
    Series("cache_purges_total", "Purges requested from this server", (), "counter"),
    Series("cache_disk_free_bytes", "Free bytes of the file system of the disk tier; absent while unknown"),
    Series("cache_disk_size_bytes", "Size of the file system of the disk tier; absent while unknown"),
    Series("origin_cache_entries", "Originals on disk", ("source",)),
    Series("origin_cache_size_bytes", "Bytes of originals on disk and of downloads in progress", ("source",)),
    Series("origin_cache_limit_bytes", "Limit of the bytes on disk", ("source",)),
    Series("origin_cache_waiting", "Requests waiting for an origin", ("source",)),
    Series("origin_cache_requests_total", "Requests to an origin cache by result", ("source", "result"), "counter"),
    Series("origin_cache_evictions_total", "Originals deleted to make space", ("source",), "counter"),
    Series("redis_up", "1 while Redis is connected; absent if none is configured"),
    Series("redis_breaker_state", "1 while the circuit breaker for reads or writes is open", ("side",)),
    Series("redis_pool_connections", "Connections to Redis for requests, by state", ("state",)),
    Series("log_lines_dropped_total", "Log lines dropped because their reader was too slow", (), "counter"),
)


class _StateCollector(Collector):
    def __init__(self, read: Callable[[], State]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Empty, so that the registry does not read the state while the server is being built."""
        return ()

    def collect(self) -> Iterable[Metric]:
        state = self._read()
        for series in STATE:
            yield _family(series, state[series.name])


def _family(series: Series, value: float | Mapping[str, float] | Mapping[tuple[str, ...], float]) -> Metric:
    kind = CounterMetricFamily if series.kind == "counter" else GaugeMetricFamily
    family = kind(PREFIX + series.name, series.text, labels=series.labels)
    if isinstance(value, Mapping):
        for labels, number in value.items():
            family.add_metric((labels,) if isinstance(labels, str) else labels, number)
    else:
        family.add_metric((), value)
    return family
