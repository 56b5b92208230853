"""Every series, declared once. One process, one registry: workers send their timings home with their results.

Two kinds: instruments, which the code that sees an event moves; and state, which is read from the components' frozen
statistics when somebody scrapes. No URL, path, key or client text is ever a label.
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

# The creation-time twin of every series doubles a scrape and tells nothing that a restart counter does not.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

# A result as large as its original is 1.
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 2.0)

IMAGE_ROUTE = "image"
UPLOAD_RESULTS = ("ok", "refused", "shed", "failed", "client_disconnected")
# What became of a request for a picture; each is counted in exactly one.
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
        self.loop_lag = gauge("event_loop_lag_seconds", "How late the event loop woke its own probe, last reading")
        self.images = counter("images_total", "Renders by format and result", "input", "output", "result")
        self.pipeline_seconds = seconds("pipeline_seconds", "Wall time of a render's stages", "stage", "format")
        self.source_bytes = counter("source_bytes_total", "Bytes of originals read", "format")
        self.result_bytes = counter("result_bytes_total", "Bytes of pictures made", "format")
        self.queue_wait = seconds("queue_wait_seconds", "Wait for a worker's slot", "queue")
        self.worker_start = seconds("worker_start_seconds", "From a worker's creation to its first answer")
        self.redis_command = seconds("redis_command_seconds", "Time of Redis commands that were answered", "op")
        self.cache_value = Histogram(
            PREFIX + "cache_value_bytes",
            "Size of the bodies that were put into the cache",
            registry=registry,
            buckets=BYTES,
        )
        self.task_timeouts = counter("task_timeouts_total", "Renders killed at their deadline")
        self.security = counter("security_events_total", "What was refused or changed at the doors", "event", "reason")
        self.policy_info = gauge("policy_info", "Always 1; the policy in force by its file's digest", "digest")
        self.policy_reloaded = gauge("policy_last_reload_successful", "0 while the policy's file is refused")
        self.policy_reloaded_at = gauge(
            "policy_last_reload_success_timestamp_seconds", "When the policy in force was read"
        )
        self.settings_reloaded = gauge("settings_last_reload_successful", "0 while the changed settings are refused")
        self.settings_reloaded_at = gauge(
            "settings_last_reload_success_timestamp_seconds", "When the keys and presets in force were read"
        )
        self.source_fetch = seconds(
            "source_fetch_seconds", 'Requests to origins that were answered, "not found" included', "source"
        )
        self.source_errors = counter("source_errors_total", "Requests to origins that failed", "source", "reason")
        self.uploads = counter("uploads_total", "Uploaded pictures by result", "result")
        self.upload_bytes = counter(
            "upload_bytes_total", "Bytes of uploaded pictures, and of their results", "direction"
        )
        text = "Bytes of a result by those of its upload"
        self.upload_ratio = Histogram(PREFIX + "upload_compression_ratio", text, registry=registry, buckets=RATIOS)
        self.task_failures = counter(
            "background_task_failures_total", "Unexpected exceptions of background tasks, which are restarted", "task"
        )
        self._begin()

    def _begin(self) -> None:
        """Known label sets exist from the start: a series that is missing hides an alert."""
        for queue in ("render", "upload"):
            self.queue_wait.labels(queue)
        for result in UPLOAD_RESULTS:
            self.uploads.labels(result)
        for direction in ("in", "out"):
            self.upload_bytes.labels(direction)
        for task in BACKGROUND_TASKS:
            self.task_failures.labels(task)

    def watch(self, read: Callable[[], "State"]) -> None:
        """Has `read` called at each scrape; it answers the values of the series in STATE."""
        self.registry.register(_StateCollector(read))


# A plain value, or one value per label value(s).
State = Mapping[str, float | Mapping[str, float] | Mapping[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    text: str
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"


STATE = (
    Series("ready", "1 when the server takes requests for pictures"),
    Series("http_connections", "Open client connections"),
    Series("http_requests_in_progress", "Requests being answered now"),
    Series("client_disconnects_total", "Clients that left before their answer", (), "counter"),
    Series("http_malformed_total", "Requests that the HTTP parser refused", (), "counter"),
    Series("http_overdue_total", "Clients cut off for being too slow", ("what",), "counter"),
    Series("queue_jobs", "Renders waiting for a slot, or running", ("queue", "state")),
    Series("queue_limit", "Places in the waiting room", ("queue",)),
    Series("queue_oldest_job_age_seconds", "Age of the longest waiting render", ("queue",)),
    Series("upload_space_bytes", "Bytes of the files of running uploads"),
    Series("waiting_tickets", "Tickets in the waiting room", ("class",)),
    Series("predicted_wait_seconds", "What a newcomer would wait for a slot"),
    Series("decoded_bytes_in_flight", "Estimated decoded bytes of the running renders"),
    Series("shed_total", "Requests refused for want of capacity", ("reason",), "counter"),
    Series("degraded_total", "Pictures made cheaper because many waited", ("step",), "counter"),
    Series("coalesced_total", "Requests that joined a render under way", (), "counter"),
    Series("workers", "Worker processes", ("state",)),
    Series("worker_busy_seconds_total", "Time that workers spent on renders", (), "counter"),
    Series("worker_restarts_total", "Workers replaced", ("reason",), "counter"),
    Series("worker_rss_bytes", "Resident memory of a worker after its last render", ("slot",)),
    Series("quarantined_keys", "Pictures set aside because they killed workers"),
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
        """Keeps the registry from reading the state while it is still being built."""
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
