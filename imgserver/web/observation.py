"""Hooks between the components' events and the instruments: observation subscribes, it is not sprinkled."""

from collections.abc import Callable

from imgserver.metrics import Metrics
from imgserver.service import Rendered


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
