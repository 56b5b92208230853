"""Hooks between the components' events and the instruments: observation subscribes, it is not sprinkled."""

from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from imgserver.errors import ImgserverError, NotFound
from imgserver.observability.audit import REASONS, Audit
from imgserver.observability.logs import cut
from imgserver.observability.metrics import Metrics
from imgserver.plan.formats import FORMATS
from imgserver.rendering.cost import Work
from imgserver.rendering.renderer import Rendered
from imgserver.rendering.worker_pool import WorkerEvent
from imgserver.sources.origin_cache.fetch_queue import Asked


def of_renders(metrics: Metrics) -> Callable[[Rendered], None]:
    """Counts what a worker reports of a finished render."""

    def observe(rendered: Rendered) -> None:
        result, timings = rendered.result, rendered.result.timings
        source, output = result.source_format, _short(result.media_type)
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


def _short(media_type: str) -> str:
    """The format's name where there is one: the same word as for failures."""
    return next((row.name for row in FORMATS.values() if row.media_type == media_type), "info")


def of_failures(metrics: Metrics) -> Callable[[Work, ImgserverError], None]:
    """Refused: the picture's fault. Error: ours; the alerts look at these."""

    def observe(work: Work, error: ImgserverError) -> None:
        result = "error" if error.status >= 500 and error.status != 501 else "refused"
        metrics.images.labels(work.source_format or "unknown", work.output_format, result).inc()

    return observe


def of_origins(metrics: Metrics) -> Callable[[Asked], None]:
    """Counts the questions to far sources; an absent original is an answer."""

    def observe(asked: Asked) -> None:
        if asked.reason in ("", NotFound.code):
            metrics.source_fetch.labels(asked.source).observe(asked.seconds)
        else:
            metrics.source_errors.labels(asked.source, asked.reason).inc()

    return observe


def of_workers(metrics: Metrics, logger: FilteringBoundLogger, audit: Audit) -> Callable[[WorkerEvent], None]:
    """Logs births and deaths; an abandoned or recycled worker is the ordinary course of things."""
    ordinary = frozenset({"recycle", "rss", "abandoned"})
    violent = frozenset(REASONS["render_killed"])

    def observe(event: WorkerEvent) -> None:
        facts = {"worker": event.number, "pid": event.pid, "reason": event.reason, "seconds": round(event.seconds, 3)}
        if event.kind == "started":
            metrics.worker_start.observe(event.seconds)
            logger.info("worker.started", **facts)
            return
        if event.kind == "quarantined":
            audit("key_quarantined", reason=event.reason)
        elif event.kind == "lost" and event.reason in violent:
            audit("render_killed", reason=event.reason, worker=event.number)
        if event.reason == "timeout":
            metrics.task_timeouts.inc()
        log = logger.info if event.reason in ordinary else logger.warning
        log(f"worker.{event.kind}", **facts, detail=cut(event.detail))

    return observe
