"""From the components' frozen statistics to the state series of `metrics.STATE`."""

from collections.abc import Callable, Mapping
from typing import Any

from structlog.typing import FilteringBoundLogger

from imgserver.cache import disk, record
from imgserver.cache.disk import DiskStatistics
from imgserver.cache.memory import MemoryStatistics
from imgserver.cache.redis import tier
from imgserver.cache.redis.client import RedisClientStatistics
from imgserver.cache.redis.tier import RedisStatistics
from imgserver.errors import ImgserverError, NotFound
from imgserver.observability.audit import REASONS, Audit
from imgserver.observability.logs import cut
from imgserver.observability.metrics import Metrics, State
from imgserver.plan.formats import FORMATS
from imgserver.rendering.admission import SHED_REASONS
from imgserver.rendering.cost import Workload
from imgserver.rendering.renderer import FinishedRender
from imgserver.rendering.upload_admission import Uploads, UploadStatistics
from imgserver.rendering.worker_pool import WorkerEvent
from imgserver.service import ImageService
from imgserver.sources.origin_cache.fetch_queue import Asked
from imgserver.sources.origin_cache.origin_cache import Spool
from imgserver.web.access_log import AccessLog
from imgserver.web.connections import Guard

# By tier. Known label sets exist from the start: a series that is missing hides an alert.
CORRUPTIONS = {"disk": record.REASONS, "redis": tier.CORRUPTIONS}
DROPS = {"disk": disk.DROPS, "redis": tier.DROPS}


def read(
    service: ImageService,
    spools: Mapping[str, Spool],
    guard: Guard,
    access_log: AccessLog,
    uploads: Uploads,
    *,
    ready: bool,
    dropped_lines: int,
) -> State:
    return {
        "ready": float(ready),
        "http_connections": guard.open,
        "http_requests_in_progress": access_log.in_progress,
        "client_disconnects_total": access_log.disconnects,
        "http_malformed_total": guard.malformed,
        "http_overdue_total": guard.overdue,
        "log_lines_dropped_total": dropped_lines,
        "refusals_remembered": service.negative_cache.statistics().remembered,
        "refusals_repeated_total": service.negative_cache.statistics().repeated,
        "degraded_total": {level.name.lower(): count for level, count in service.degradation.counts.items()},
        "coalesced_total": service.flights.statistics().coalesced,
        **_queue(service, uploads.statistics()),
        **_workers(service),
        **_cache(service),
        **_spools(spools),
    }


def _queue(service: ImageService, uploads: UploadStatistics) -> dict[str, Any]:
    queue = service.renderer.admission.statistics()
    return {
        "queue_jobs": {
            ("render", "ready"): queue.waiting,
            ("render", "running"): queue.running,
            ("upload", "ready"): uploads.waiting,
            ("upload", "running"): uploads.running,
        },
        "queue_limit": {"render": queue.limit, "upload": uploads.limit},
        "queue_oldest_job_age_seconds": {"render": queue.oldest_wait_seconds, "upload": uploads.oldest_wait_seconds},
        "upload_space_bytes": uploads.space_bytes,
        "waiting_tickets": queue.waiting_by_class,
        "predicted_wait_seconds": queue.predicted_wait_seconds,
        "decoded_bytes_in_flight": queue.decoded_bytes_in_flight,
        "shed_total": {**dict.fromkeys(SHED_REASONS, 0), **queue.shed},
    }


def _workers(service: ImageService) -> dict[str, Any]:
    workers = service.renderer.workers.statistics()
    return {
        "workers": {
            "busy": workers.busy,
            "idle": workers.idle,
            "starting": workers.starting,
            "spare": workers.spare,
        },
        "worker_busy_seconds_total": workers.busy_seconds,
        "worker_restarts_total": workers.restarts,
        "worker_rss_bytes": {str(number): size for number, size in workers.rss_bytes.items()},
        "quarantined_keys": workers.quarantined,
    }


def _cache(service: ImageService) -> dict[str, Any]:
    cache = service.cache.statistics()
    bounded: dict[str, MemoryStatistics | DiskStatistics] = {"memory": cache.memory}
    slow: dict[str, DiskStatistics | RedisStatistics] = {}
    if cache.disk is not None:
        bounded["disk"] = slow["disk"] = cache.disk
    if cache.redis is not None:
        slow["redis"] = cache.redis
    tiers: dict[str, MemoryStatistics | DiskStatistics | RedisStatistics] = {**bounded, **slow}
    return {
        "cache_requests_total": {
            **{(name, "hit"): tier.hits for name, tier in tiers.items()},
            **{(name, "miss"): tier.misses for name, tier in tiers.items()},
            **{(name, "stale"): tier.stale for name, tier in tiers.items()},
            **{(name, "error"): tier.errors for name, tier in slow.items()},
            **{(name, "bypass"): tier.bypassed for name, tier in slow.items()},
        },
        "cache_evictions_total": {name: tier.evictions for name, tier in bounded.items()},
        "cache_entries": {name: tier.entries for name, tier in bounded.items()},
        "cache_size_bytes": {name: tier.bytes for name, tier in bounded.items()},
        "cache_limit_bytes": {name: tier.limit_bytes for name, tier in bounded.items()},
        "cache_corrupt_total": {
            (name, why): tier.corrupt.get(why, 0) for name, tier in slow.items() for why in CORRUPTIONS[name]
        },
        "cache_dropped_writes_total": {
            **{(name, why): tier.dropped_writes.get(why, 0) for name, tier in slow.items() for why in DROPS[name]},
            **{("all", why): n for why, n in cache.dropped_writes.items()},
        },
        "cache_purges_total": cache.purges,
        **_room(cache.disk),
        **_redis(cache.link),
    }


def _room(disk: DiskStatistics | None) -> dict[str, Any]:
    if disk is None or disk.free_bytes is None or disk.size_bytes is None:
        return {"cache_disk_free_bytes": {}, "cache_disk_size_bytes": {}}
    return {"cache_disk_free_bytes": disk.free_bytes, "cache_disk_size_bytes": disk.size_bytes}


def _spools(spools: Mapping[str, Spool]) -> dict[str, Any]:
    told = {name: spool.statistics() for name, spool in spools.items()}
    results = ("hits", "fetches", "revalidations", "looks", "joined", "failures", "refused")
    return {
        "spool_entries": {name: one.entries for name, one in told.items()},
        "spool_size_bytes": {name: one.bytes for name, one in told.items()},
        "spool_limit_bytes": {name: one.limit_bytes for name, one in told.items()},
        "spool_waiting": {name: one.waiting for name, one in told.items()},
        "spool_requests_total": {(name, word): getattr(one, word) for name, one in told.items() for word in results},
        "spool_evictions_total": {name: one.evictions for name, one in told.items()},
    }


def _redis(link: RedisClientStatistics | None) -> dict[str, Any]:
    if link is None:
        return {"redis_up": {}, "redis_breaker_state": {}, "redis_pool_connections": {}}
    sides = {"read": link.read_breaker, "write": link.write_breaker}
    return {
        "redis_up": float(link.connected),
        "redis_breaker_state": {side: float(state == "open") for side, state in sides.items()},
        "redis_pool_connections": link.connections,
    }


# Hooks between the components' events and the instruments: observation subscribes, it is not sprinkled.


def of_renders(metrics: Metrics) -> Callable[[FinishedRender], None]:
    """Counts what a worker reports of a finished render."""

    def observe(rendered: FinishedRender) -> None:
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


def of_failures(metrics: Metrics) -> Callable[[Workload, ImgserverError], None]:
    """Refused: the picture's fault. Error: ours; the alerts look at these."""

    def observe(work: Workload, error: ImgserverError) -> None:
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
