"""The state series of one scrape: read from the components' statistics, not counted as events happen."""

from collections.abc import Iterable, Mapping
from typing import Any

from imgserver.cache.redis.client import RedisClientStatistics
from imgserver.cache.tier import TierStatistics
from imgserver.observability.logs import LogWriter
from imgserver.observability.metrics import State
from imgserver.rendering.admission_statistics import SHED_REASONS
from imgserver.rendering.upload_admission import UploadAdmission, UploadStatistics
from imgserver.service import ImageService
from imgserver.sources.origin_cache.settings import OriginCacheStatistics
from imgserver.web.access_log import AccessLog
from imgserver.web.bootstrap.sources import Sources
from imgserver.web.health import Health
from imgserver.web.open_connections import OpenConnections


def read_state(
    *,
    service: ImageService,
    health: Health,
    sources: Sources,
    uploads: UploadAdmission,
    connections: OpenConnections,
    access_log: AccessLog,
    log_writer: LogWriter,
) -> State:
    """The value of every series in `metrics.STATE`."""
    negative_cache = service.negative_cache.statistics()
    return {
        "ready": float(health.ready),
        "http_connections": len(connections),
        "http_connections_limit": connections.limit,
        "http_connections_shed_total": connections.shed,
        "http_requests_in_progress": access_log.in_progress,
        "client_disconnects_total": access_log.disconnects,
        "http_malformed_total": connections.malformed,
        "http_overdue_total": connections.overdue,
        "log_lines_dropped_total": log_writer.dropped_lines,
        "negative_cache_entries": negative_cache.entries,
        "negative_cache_hits_total": negative_cache.hits,
        "degraded_total": {level.name.lower(): count for level, count in service.degradation.counts.items()},
        "coalesced_total": service.flights.statistics().coalesced,
        **_queue(service, uploads.statistics()),
        **_workers(service),
        **_cache(service),
        **_origin_caches(sources.statistics()),
    }


def _queue(service: ImageService, uploads: UploadStatistics) -> dict[str, Any]:
    queue = service.renderer.admission.statistics()
    return {
        "queue_jobs": {
            ("render", "ready"): queue.waiting,
            ("render", "running"): queue.running,
            ("upload", "ready"): uploads.waiting,
            ("upload", "receiving"): uploads.receiving,
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
    tiers = cache.tiers
    bounded = {name: tier for name, tier in tiers.items() if tier.limit_bytes is not None}
    return {
        "cache_requests_total": {
            (name, result): count
            for name, tier in tiers.items()
            for result, count in _lookups(tier).items()
            if count is not None
        },
        "cache_evictions_total": {name: tier.evictions for name, tier in bounded.items()},
        "cache_entries": {name: tier.entries for name, tier in bounded.items()},
        "cache_size_bytes": {name: tier.bytes for name, tier in bounded.items()},
        "cache_limit_bytes": {name: tier.limit_bytes for name, tier in bounded.items()},
        "cache_corrupt_total": {
            (name, reason): count for name, tier in tiers.items() for reason, count in (tier.corrupt or {}).items()
        },
        "cache_dropped_writes_total": {
            **{(name, why): n for name, tier in tiers.items() for why, n in (tier.dropped_writes or {}).items()},
            **{("all", why): n for why, n in cache.dropped_writes.items()},
        },
        "cache_purges_total": cache.purges,
        **_disk_space(tiers.values()),
        **_redis(cache.redis_client),
    }


def _lookups(tier: TierStatistics) -> dict[str, int | None]:
    return {
        "hit": tier.hits,
        "miss": tier.misses,
        "stale": tier.stale,
        "error": tier.errors,
        "bypass": tier.bypassed,
    }


def _disk_space(tiers: Iterable[TierStatistics]) -> dict[str, Any]:
    for tier in tiers:
        if tier.free_bytes is not None and tier.size_bytes is not None:
            return {"cache_disk_free_bytes": tier.free_bytes, "cache_disk_size_bytes": tier.size_bytes}
    return {"cache_disk_free_bytes": {}, "cache_disk_size_bytes": {}}


def _origin_caches(statistics: Mapping[str, OriginCacheStatistics]) -> dict[str, Any]:
    results = ("hits", "fetches", "revalidations", "stat_requests", "coalesced", "failures", "refused")
    return {
        "origin_cache_entries": {name: one.entries for name, one in statistics.items()},
        "origin_cache_size_bytes": {name: one.bytes for name, one in statistics.items()},
        "origin_cache_limit_bytes": {name: one.limit_bytes for name, one in statistics.items()},
        "origin_cache_waiting": {name: one.waiting for name, one in statistics.items()},
        "origin_cache_requests_total": {
            (name, result): getattr(one, result) for name, one in statistics.items() for result in results
        },
        "origin_cache_evictions_total": {name: one.evictions for name, one in statistics.items()},
    }


def _redis(client: RedisClientStatistics | None) -> dict[str, Any]:
    if client is None:
        return {"redis_up": {}, "redis_breaker_state": {}, "redis_pool_connections": {}}
    sides = {"read": client.read_breaker, "write": client.write_breaker}
    return {
        "redis_up": float(client.connected),
        "redis_breaker_state": {side: float(state == "open") for side, state in sides.items()},
        "redis_pool_connections": client.connections,
    }
