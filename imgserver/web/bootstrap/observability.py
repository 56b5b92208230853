"""The metrics, the logs and the audit of one server."""

from dataclasses import dataclass
from typing import BinaryIO

from structlog.typing import FilteringBoundLogger

from imgserver.observability.audit import AuditLog, label_sets
from imgserver.observability.logs import LogSettings, LogWriter, make_logger, make_request_log
from imgserver.observability.metrics import Metrics
from imgserver.runtime.background import OnTaskFailure
from imgserver.web.access_log import AccessLog
from imgserver.web.instrumentation import task_failure_observer


@dataclass(frozen=True, slots=True)
class Observability:
    """The log writer has a thread, which `LogWriter.close` ends."""

    metrics: Metrics
    logger: FilteringBoundLogger
    log_writer: LogWriter
    access_log: AccessLog
    audit: AuditLog
    on_task_failure: OnTaskFailure


def make_observability(settings: LogSettings, stream: BinaryIO | None = None) -> Observability:
    """`stream` receives the log lines; standard error by default."""
    metrics = Metrics()
    logger, writer = make_logger(settings, stream)
    access_log = AccessLog(make_request_log(settings, logger, writer))
    metrics.registry.register(access_log.counters)
    return Observability(
        metrics,
        logger,
        writer,
        access_log,
        audit=_make_audit(metrics, logger),
        on_task_failure=task_failure_observer(metrics, logger),
    )


def _make_audit(metrics: Metrics, logger: FilteringBoundLogger) -> AuditLog:
    # Known label sets exist from the start: a missing series would hide an alert.
    for labels in label_sets():
        metrics.security.labels(*labels)
    return AuditLog(logger, lambda event, reason: metrics.security.labels(event, reason).inc())
