"""Hooks between the components' events and the instruments: observation subscribes, it is not sprinkled."""

from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from imgserver.logs import cut
from imgserver.metrics import Metrics
from imgserver.service import Rendered
from imgserver.workers import WorkerEvent


def of_renders(metrics: Metrics) -> Callable[[Rendered], None]:
    """Counts what a worker reports of a finished render."""

    def observe(rendered: Rendered) -> None:
        result, timings = rendered.result, rendered.result.timings
        source, output = result.source_format, result.media_type.rpartition("/")[2]
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


def of_workers(metrics: Metrics, logger: FilteringBoundLogger) -> Callable[[WorkerEvent], None]:
    """Logs births and deaths; an abandoned or recycled worker is the ordinary course of things."""
    ordinary = frozenset({"recycle", "rss", "abandoned"})

    def observe(event: WorkerEvent) -> None:
        facts = {"worker": event.number, "pid": event.pid, "reason": event.reason, "seconds": round(event.seconds, 3)}
        if event.kind == "started":
            metrics.worker_start.observe(event.seconds)
            logger.info("worker.started", **facts)
            return
        if event.reason == "timeout":
            metrics.task_timeouts.inc()
        log = logger.info if event.reason in ordinary else logger.warning
        log(f"worker.{event.kind}", **facts, detail=cut(event.detail))

    return observe
