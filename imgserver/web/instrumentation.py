"""Observers of what the components report: each event becomes metrics, log lines and audit events.

The components call the observers; they know neither the metrics nor the log.
"""

from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from imgserver.errors import ImgserverError, NotFound
from imgserver.observability.audit import REASONS, Audit
from imgserver.observability.logs import cut
from imgserver.observability.metrics import Metrics
from imgserver.plan.formats import format_of_media_type
from imgserver.rendering.cost import Workload
from imgserver.rendering.renderer import FinishedRender
from imgserver.rendering.worker_pool import WorkerEvent
from imgserver.runtime.background import OnTaskFailure
from imgserver.sources.origin_cache.fetch_queue import FetchEvent

# A worker that ends for one of these reasons is replaced in normal operation: the log line is no warning.
ORDINARY_REASONS = frozenset({"recycle", "rss", "abandoned"})
KILL_REASONS = frozenset(REASONS["render_killed"])


def render_observer(metrics: Metrics) -> Callable[[FinishedRender], None]:
    """Counts a finished render with its formats, bytes and stage durations."""

    def observe(rendered: FinishedRender) -> None:
        result, timings = rendered.result, rendered.result.timings
        source, output = result.source_format, _format_name(result.media_type)
        metrics.images.labels(source, output, "ok").inc()
        metrics.source_bytes.labels(source).inc(result.source_bytes)
        metrics.result_bytes.labels(output).inc(len(result.body))
        metrics.queue_wait.labels("render").observe(rendered.queue_seconds)
        stages = {
            "queue": rendered.queue_seconds,
            "decode": timings.decode_seconds,
            "transform": timings.transform_seconds,
            "encode": timings.encode_seconds,
        }
        for stage, seconds in stages.items():
            metrics.pipeline_seconds.labels(stage, output).observe(seconds)

    return observe


def _format_name(media_type: str) -> str:
    """The format's name, as in the series of failed renders; "info" for a result that is not an image."""
    row = format_of_media_type(media_type)
    return row.name if row else "info"


def render_failure_observer(metrics: Metrics) -> Callable[[Workload, ImgserverError], None]:
    """Counts a failed render as `refused` when the image is at fault, and as `error` when the server is: the alerts
    watch `error`."""

    def observe(work: Workload, error: ImgserverError) -> None:
        result = "error" if error.status >= 500 and error.status != 501 else "refused"
        metrics.images.labels(work.source_format or "unknown", work.output_format, result).inc()

    return observe


def origin_observer(metrics: Metrics) -> Callable[[FetchEvent], None]:
    """Counts a request to a remote origin. "Not found" is a valid response, not a failure."""

    def observe(request: FetchEvent) -> None:
        if request.reason in ("", NotFound.code):
            metrics.source_fetch.labels(request.source).observe(request.seconds)
        else:
            metrics.source_errors.labels(request.source, request.reason).inc()

    return observe


def task_failure_observer(metrics: Metrics, logger: FilteringBoundLogger) -> OnTaskFailure:
    """Counts and logs the unexpected exceptions of background tasks."""

    def observe(task: str, error: Exception) -> None:
        metrics.task_failures.labels(task).inc()
        logger.error("background.task_failed", task=task, error=repr(error), exc_info=error)

    return observe


def connection_observer(logger: FilteringBoundLogger) -> Callable[[int, int], None]:
    """Logs the connections that were closed because the limit was reached."""

    def observe(evicted: int, refused: int) -> None:
        logger.warning("connections.limit_reached", evicted=evicted, refused=refused)

    return observe


def worker_observer(metrics: Metrics, logger: FilteringBoundLogger, audit: Audit) -> Callable[[WorkerEvent], None]:
    """Logs the start and the end of each worker; audits a killed render and a quarantined original."""

    def observe(event: WorkerEvent) -> None:
        fields = {"worker": event.number, "pid": event.pid, "reason": event.reason, "seconds": round(event.seconds, 3)}
        if event.kind == "started":
            metrics.worker_start.observe(event.seconds)
            logger.info("worker.started", **fields)
            return
        if event.kind == "oom_kills_of_machine":
            logger.info("worker.oom_kills_of_machine", detail=event.detail)
            return
        if event.kind == "quarantined":
            audit("key_quarantined", reason=event.reason)
        elif event.kind == "lost" and event.busy and event.reason in KILL_REASONS:
            audit("render_killed", reason=event.reason, worker=event.number)
        if event.reason == "timeout":
            metrics.task_timeouts.inc()
        log = logger.info if event.reason in ORDINARY_REASONS else logger.warning
        if event.kind == "lost":
            fields["busy"] = event.busy
        log(f"worker.{event.kind}", **fields, detail=cut(event.detail))

    return observe
